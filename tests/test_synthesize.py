"""``nibkit synthesize`` as its user sees it: label files into photographs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nibkit.backbones import Backbone
from nibkit.checkpoint import AVERAGE, task_name
from nibkit.cli import main, train
from nibkit.draws import evaluation_key
from nibkit.registry import register_backbone
from tasks.semantic_synthesis import SemanticSynthesisTask

NUMBER, VOID = 4, 200
NONE, FEATURE = {"form": "none"}, {"form": "feature", "channels": 1, "noise": "stationary", "scale": 1.0}
DYNAMIC = FEATURE | {"noise": "dynamic"}
TINY = {"spade": {"width": 1, "hidden": 4, "ups": 5}, "pix2pix": {"width": 2, "downs": 6}}  # with dropout
CKPT = "best.ckpt"
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.001}


@register_backbone("with_instance_norm")
class WithInstanceNorm(Backbone):
    """A generator that cannot normalise a single pixel."""

    tileable = False  # so that the tests of the whole registry leave it out

    def __init__(self, in_channels=5, out_channels=3, *, nib):
        super().__init__(in_channels, out_channels, nib, "zeros")
        self.stem = self.make_stem(3, kernel_size=1)
        self.norm = nn.InstanceNorm2d(3)

    def body(self, image, origin):
        return self.norm(self.stem(image, origin)).tanh()


def make_task(name="spade", nib=FEATURE, void=VOID, edges=False, seed=0):
    """Return a small generator whose photographs spread over all levels, so that a wrong pixel shows."""
    torch.manual_seed(seed)
    backbone = {"name": name, "in_channels": NUMBER + (void is not None) + edges, **TINY.get(name, {})}
    classes = {"number": NUMBER, "void_id": void, "edges": edges, "names": list("abcd")}
    task = SemanticSynthesisTask(
        backbone, nib, ADAM, {"name": "constant"}, {"name": "patchgan", "width": 2}, ADAM, l1_weight=1.0,
        classes=classes,
    ).eval()  # fmt: skip
    if hasattr(task.backbone, "tail"):
        planes = torch.rand(1, backbone["in_channels"], 64, 64)
        with torch.no_grad():
            for module in task.backbone.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.mul_(5)
            raw = torch.atanh(task.backbone(planes).clamp(-0.9999, 0.9999))
            task.backbone.tail.weight.mul_(0.6 / raw.std())
    return task


def save(task, path=CKPT, **content):
    checkpoint = {
        "state_dict": task.state_dict(),
        "hyper_parameters": dict(task.hparams),
        "nibkit_task": task_name(type(task)),
    }
    torch.save(checkpoint | content, path)
    return task


def draw_ids(height=40, width=56, seed=0, void=VOID):
    """Return regions of all classes and void, ``[H, W]`` uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, NUMBER + 1, (2, 9))
    ids = (rows[np.arange(height) * 9 // max(height, 9)][:, None] + columns[np.arange(width) * 9 // max(width, 9)]) % 5
    return np.where(ids == NUMBER, 0 if void is None else void, ids).astype(np.uint8)


def write(path, ids):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def synthesize(*arguments, checkpoint=CKPT):
    main(["synthesize", *map(str, arguments), "--checkpoint", str(checkpoint)])


def pixels(path):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def expected(task, ids, name="a", edges=None):
    """Return what a test of the run gives for a scene of this name, in 8 bit."""
    label = torch.from_numpy(np.where(ids == VOID, NUMBER, ids).astype(np.int64))[None]
    batch = {"label": label, "origin": torch.zeros(1, 2, dtype=torch.int64), "name": [name]}
    batch["draw"] = torch.tensor([evaluation_key(name)])
    if edges is not None:
        batch["edges"] = torch.from_numpy(np.float32(edges))[None, None]
    with torch.no_grad():
        image = task.render_batch(batch)[0]
    return ((image + 1) * 127.5).round().permute(1, 2, 0).byte().numpy()


@pytest.mark.parametrize("size", [(64, 64), (33, 97), (1, 1), (3, 70)])
@pytest.mark.parametrize("name", TINY)
def test_the_photograph_is_the_one_of_the_runs_test_at_any_size(name, size):
    task, ids = save(make_task(name)), draw_ids(*size)
    write("a.png", ids)
    synthesize("a.png", "photo.png")
    np.testing.assert_array_equal(pixels("photo.png"), expected(task, ids))
    assert pixels("photo.png").shape == (*size, 3)


@pytest.mark.parametrize("name", TINY)
def test_the_generators_of_these_tests_are_not_blind(name):
    save(make_task(name))
    for seed in (0, 1):
        write(f"labels/{seed}.png", draw_ids(seed=seed))
    synthesize("labels", "photos")
    one, other = (pixels(f"photos/{seed}.png").astype(int) for seed in (0, 1))
    assert one.std() > 20
    assert (one != other).mean() > 0.3


def test_the_closing_line(capsys):
    save(make_task())
    write("a.png", draw_ids())
    synthesize("a.png", "photo.png")
    shown = capsys.readouterr()
    assert shown.out.startswith("wrote photo.png: 0.00 megapixels in ")
    assert (shown.out.count("\n"), shown.err) == (1, "")


RANDOM = [("spade", FEATURE), ("spade", DYNAMIC), ("pix2pix", FEATURE), ("pix2pix", NONE)]


@pytest.mark.parametrize(("name", "nib"), RANDOM)
def test_a_seed_gives_another_photograph_and_the_same_one_the_same(name, nib):
    save(make_task(name, nib))
    write("a.png", draw_ids())
    for out, seed in (("none", None), ("0", 0), ("5", 5), ("five", 5), ("6", 6)):
        synthesize("a.png", f"{out}.png", *([] if seed is None else ["--seed", seed]))
        torch.rand(3)  # what was drawn in this process before has no say
    files = {path.stem: path.read_bytes() for path in Path().glob("*.png")}
    assert files["none"] == files["0"]
    assert files["5"] == files["five"]
    for one, other in (("0", "5"), ("5", "6")):
        assert (pixels(f"{one}.png") != pixels(f"{other}.png")).mean() > 0.1


def test_without_noise_and_dropout_there_is_one_photograph():
    save(make_task("spade", NONE))
    write("a.png", draw_ids())
    for seed in (0, 5):
        synthesize("a.png", f"{seed}.png", "--seed", seed)
    assert Path("0.png").read_bytes() == Path("5.png").read_bytes()


@pytest.mark.parametrize(("name", "nib"), RANDOM)
def test_what_else_is_in_the_folder_changes_nothing(name, nib):
    save(make_task(name, nib))
    for seed, stem in enumerate(("a", "sub/b", "sub/c")):
        write(f"labels/{stem}.png", draw_ids(seed=seed))
    synthesize("labels", "all", "--seed", 3)
    synthesize("labels/sub/b.png", "b.png", "--seed", 3)
    made = sorted(path.relative_to("all").as_posix() for path in Path("all").rglob("*.png"))
    assert made == ["a.png", "sub/b.png", "sub/c.png"]
    assert Path("all/sub/b.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize("name", TINY)
def test_the_average_of_the_weights_is_preferred(name):
    average = save(make_task(name, seed=1), "other.ckpt").backbone.state_dict()
    save(make_task(name), **{AVERAGE: average})
    save(make_task(name), "own.ckpt")
    write("a.png", draw_ids())
    for checkpoint in (CKPT, "other.ckpt", "own.ckpt"):
        synthesize("a.png", f"{checkpoint}.png", checkpoint=checkpoint)
    np.testing.assert_array_equal(pixels(f"{CKPT}.png"), pixels("other.ckpt.png"))
    assert (pixels(f"{CKPT}.png") != pixels("own.ckpt.png")).mean() > 0.1


def test_8_bit_16_bit_and_palette_files_of_the_same_numbers_are_the_same():
    save(make_task())
    ids = draw_ids()
    palette = Image.fromarray(ids).convert("P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    palette.putdata(ids.flatten().tolist())
    for kind, image in {
        "l": Image.fromarray(ids),
        "deep": Image.fromarray(ids.astype(np.uint16)),
        "p": palette,
    }.items():
        Path(kind).mkdir()
        image.save(f"{kind}/a.png")
        synthesize(f"{kind}/a.png", f"{kind}.png")
    assert len({Path(f"{kind}.png").read_bytes() for kind in ("l", "deep", "p")}) == 1


def test_a_size_resizes_the_labels_to_the_nearest():
    task, ids = save(make_task()), draw_ids()
    write("a.png", ids)
    synthesize("a.png", "photo.png", "--size", "67x31")
    resized = np.asarray(Image.fromarray(ids).resize((31, 67), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(pixels("photo.png"), expected(task, resized))


def test_classes_that_begin_at_one():
    save(make_task(void=None))
    for first in (0, 1):
        write(f"{first}/a.png", draw_ids(void=None) + np.uint8(first))
        synthesize(f"{first}/a.png", f"{first}.png", "--first-id", first)
    assert Path("0.png").read_bytes() == Path("1.png").read_bytes()


def test_photos_beside_the_label_maps_are_left_alone():
    save(make_task())
    write("base/a.png", draw_ids())
    write("base/a.jpg", draw_ids())
    synthesize("base", "photos")
    assert [path.name for path in Path("photos").iterdir()] == ["a.png"]


def test_the_licence_plates_of_cityscapes_are_read_as_its_first_class():
    save(make_task(void=None))
    ids = draw_ids(void=None)
    ids[:4, :4] = 0
    write("a/x_labelIds.png", ids)
    ids[:4, :4] = 255
    write("b/x_labelIds.png", ids)
    for folder in "ab":
        synthesize(f"{folder}/x_labelIds.png", f"{folder}.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def naive_edges(instances):
    """Mark each pixel that has a neighbour of another instance, one by one."""
    height, width = instances.shape
    marked = np.zeros(instances.shape, dtype=bool)
    for y, x in np.ndindex(height, width):
        near = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        inside = [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width]
        marked[y, x] = any(instances[place] != instances[y, x] for place in inside)
    return marked


@pytest.mark.parametrize(("labels", "instances"), [("a", "a"), ("a_labelIds", "a_instanceIds")])
def test_edges_of_instances(labels, instances):
    """Named alike, or as in Cityscapes, where other maps lie beside them."""
    task, ids = save(make_task(edges=True)), draw_ids(20, 30)
    others = (np.arange(20)[:, None] // 5 * 1000 + np.arange(30) // 11).astype(np.uint16)
    folder = "instances" if labels == instances else "labels"
    write(f"labels/town/{labels}.png", ids)
    write(f"{folder}/town/{instances}.png", others)
    synthesize("labels", "photos", "--instances", folder)
    assert [path.name for path in Path("photos").rglob("*.png")] == [f"{labels}.png"]
    photo = pixels(f"photos/town/{labels}.png")
    np.testing.assert_array_equal(photo, expected(task, ids, labels, naive_edges(others)))
    assert (photo != expected(task, ids, labels, np.zeros_like(ids))).mean() > 0.05
    synthesize(f"labels/town/{labels}.png", "one.png", "--instances", f"{folder}/town", "--size", "40x60")
    large = np.kron(others, np.ones((2, 2), dtype=np.uint16))
    doubled = np.kron(ids, np.ones((2, 2), dtype=np.uint8))
    np.testing.assert_array_equal(pixels("one.png"), expected(task, doubled, labels, naive_edges(large)))


@pytest.fixture
def refused(capsys, tmp_path):
    """Call ``nibkit synthesize`` with bad input; return its one sentence, and leave nothing behind."""

    def call(*arguments, keeps=()):
        before = set(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            main(["synthesize", *arguments])
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.startswith("nibkit synthesize: error: ")
        assert error.count("\n") == 1, error
        assert {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before} == set(keeps)
        return error.removeprefix("nibkit synthesize: error: ").strip()

    return call


def without(task, key):
    return {"hyper_parameters": {name: value for name, value in task.hparams.items() if name != key}}


@pytest.mark.parametrize(
    ("checkpoint", "sentence"),
    [
        ("none.ckpt", "checkpoint 'none.ckpt' does not exist; checkpoints lie in RUN_DIR/checkpoints/"),
        ("run", "'run' is no training checkpoint, which alone knows its classes; give RUN_DIR/checkpoints/best.ckpt"),
        ("text.ckpt", "checkpoint 'text.ckpt' is truncated or no checkpoint; use another, such as last.ckpt"),
        ("dots.ckpt", "weights 'dots.ckpt' are of task 'dithering', but weights of 'semantic_synthesis' are needed"),
        ("nameless.ckpt", "checkpoint 'nameless.ckpt' does not say what its classes are; give RUN_DIR/checkpoints/"),
        ("more.ckpt", "checkpoint 'more.ckpt' has 6 planes of labels and 3 colours, but its network takes 5 and gives"),
    ],
)  # fmt: skip
def test_bad_checkpoints(refused, checkpoint, sentence):
    task = make_task()
    Path("text.ckpt").write_text("this is no checkpoint")
    save(task, "dots.ckpt", nibkit_task="tasks.dithering.DitheringTask")
    save(task, "nameless.ckpt", **without(task, "classes"))
    classes = {"number": 5, "void_id": 9, "edges": False, "names": None}
    save(task, "more.ckpt", hyper_parameters={**task.hparams, "classes": classes})
    write("a.png", draw_ids())
    assert refused("a.png", "photo.png", "--checkpoint", checkpoint).startswith(sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: IN, OUT, --checkpoint; see nibkit synthesize --help"),
        (["none", "o", "--checkpoint", CKPT], "IN 'none' does not exist; give an image file or a folder of images"),
        (["empty", "o", "--checkpoint", CKPT], "image folder 'empty' holds no images; looked for .jpg, .jpeg, .png"),
        (["a.jpg", "o.png", "--checkpoint", CKPT], "'a.jpg' is no label map; give PNG files of class numbers"),
        (["photos", "o", "--checkpoint", CKPT], "'photos/a.jpg' is no label map; give PNG files of class numbers"),
        (["labels", "a.png", "--checkpoint", CKPT], "OUT 'a.png' is a file but IN 'labels' is a folder; give a folder"),
        (["labels", "labels", "--checkpoint", CKPT], "OUT 'labels' is IN; choose another folder"),
        (["a.png", "o.jpg", "--checkpoint", CKPT], "OUT 'o.jpg' must end in .png: photographs are written as 8-bit"),
        (["a.png", "no/o.png", "--checkpoint", CKPT], "the folder 'no' of OUT does not exist; make it first"),
        (["a.png", "a.png", "--checkpoint", CKPT], "OUT 'a.png' would overwrite IN; choose another name"),
        (["a.png", "o.png", "--checkpoint", CKPT, "--size", "64"],
            "argument --size: '64' is no HEIGHTxWIDTH in pixels, such as 256x512; see nibkit synthesize --help"),
        (["a.png", "o.png", "--checkpoint", CKPT, "--size", "0x9"], "argument --size: '0x9' is no HEIGHTxWIDTH in"),
        (["a.png", "o.png", "--checkpoint", CKPT, "--seed", "-1"], "argument --seed: '-1' is no whole number from 0"),
        (["a.png", "o.png", "--checkpoint", CKPT, "--instances", "labels"],
            "--instances is for checkpoints trained with data.edges=true; leave it out"),
        (["a.png", "o.png", "--checkpoint", "edges.ckpt"],
            "'a.png': this checkpoint reads the edges of instances; give their maps by --instances"),
        (["a.png", "o.png", "--checkpoint", "edges.ckpt", "--instances", "no"],
            "--instances 'no' does not exist or is no folder; name the folder of the instance maps"),
        (["a.png", "o.png", "--checkpoint", "edges.ckpt", "--instances", "empty"],
            "'a.png' has no map of instances 'empty/a.png'; --instances needs one for each label map"),
        (["a.png", "o.png", "--checkpoint", "edges.ckpt", "--instances", "."],
            "'a.png' cannot be its own map of instances; give another folder by --instances"),
        (["a.png", "o.png", "--checkpoint", "edges.ckpt", "--instances", "small"],
            "'small/a.png' has 9x7 pixels, its label map 'a.png' 40x56; they must be of one size"),
        (["wrong.png", "o.png", "--checkpoint", CKPT],
            "label file 'wrong.png' has the id 4, but the checkpoint's classes are 0 to 3 and void is 200; give"),
        (["wrong.png", "o.png", "--checkpoint", CKPT, "--first-id", "2"],
            "label file 'wrong.png' has the id 0, but the checkpoint's classes are 2 to 5 and void is 202; give"),
        (["a.png", "o.png", "--checkpoint", "no_void.ckpt"],
            "label file 'a.png' has the id 200, but the checkpoint's classes are 0 to 3 and there is no void; give"),
        (["rgb.png", "o.png", "--checkpoint", CKPT], "cannot read image 'rgb.png': has colours (RGB), but index"),
        (["text.png", "o.png", "--checkpoint", CKPT], "cannot read image 'text.png': not an image"),
        (["cut.png", "o.png", "--checkpoint", CKPT], "cannot read image 'cut.png': truncated"),
        (["a.png", "o.png", "--checkpoint", "norm.ckpt", "--size", "1x1"],
            "'a.png' of 1x1 pixels is too small for this generator (Expected more than 1 spatial element"),
    ],
)  # fmt: skip
def test_bad_input(refused, arguments, sentence):
    save(make_task())
    save(make_task(edges=True), "edges.ckpt")
    save(make_task(void=None), "no_void.ckpt")
    save(make_task("with_instance_norm"), "norm.ckpt")
    Path("empty").mkdir()
    ids = draw_ids()
    for name in ("a.png", "a.jpg", "labels/a.png", "photos/a.jpg"):
        write(name, ids)
    write("small/a.png", ids[:9, :7])
    write("wrong.png", np.where(ids == VOID, 4, ids).astype(np.uint8))
    write("rgb.png", np.dstack([ids, ids, ids]))
    Path("text.png").write_text("this is no image")
    write("cut.png", np.random.default_rng(0).integers(0, 4, (64, 64), dtype=np.uint8))
    Path("cut.png").write_bytes(Path("cut.png").read_bytes()[:600])
    assert refused(*arguments).startswith(sentence)


def test_two_pixels_are_enough_where_one_is_too_small():
    save(make_task("with_instance_norm"))
    write("a.png", draw_ids())
    synthesize("a.png", "photo.png", "--size", "1x2")
    assert pixels("photo.png").shape == (1, 2, 3)


def test_what_fails_in_a_folder_does_not_stop_the_others(refused):
    save(make_task())
    write("in/a.png", np.full((9, 9), 77, dtype=np.uint8))
    write("in/b.png", draw_ids())
    message = refused("in", "out", "--checkpoint", CKPT, keeps={"out", "out/b.png"})
    assert message.startswith("1 of 2 images failed: label file 'in/a.png' has the id 77, but")


def test_predict_names_the_command_for_label_maps(capsys):
    save(make_task(), CKPT, **{"pytorch-lightning_version": "2.6.0"})
    write("a.png", draw_ids())
    with pytest.raises(SystemExit) as stop:
        train(["task=semantic_synthesis", "mode=predict", "input=a.png", "output=out", f"ckpt_path={CKPT}"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("train.py: error: mode=predict reads images, but this task's network reads label maps; ")
    assert "nibkit synthesize LABELS OUT --checkpoint" in error
    assert not Path("out").exists()


def test_help_is_quick():
    code = "import sys; sys.argv[1:] = ['synthesize', '--help']; from nibkit.cli import main\ntry: main()\n"
    code += "finally: assert not {'torch', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--size HxW" in done.stdout
    assert "Any size works" in done.stdout
