"""What the studies compare, as the paper has it, on which images; and bad input that is told before any training."""

import functools
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image
from test_studies import make_images, shrink

import nibkit
from nibkit.cli import main
from nibkit.config import load_config
from nibkit.data.builtin import COMICS, PHOTOS
from nibkit.make import make
from nibkit.reproduce import Options, cells
from nibkit.reproduce.studies import STUDIES
from nibkit.reproduce.study import make_jobs

# the paper's names, by hand: form, generation, distribution, scale
MODES = {
    "none": ("none",),
    "s_n_0.3": ("symmetric", "stationary", "normal", 0.3),
    "d_n_0.3": ("symmetric", "dynamic", "normal", 0.3),
    "s_n_0.03": ("symmetric", "stationary", "normal", 0.03),
    "s_u_0.3": ("symmetric", "stationary", "uniform", 0.3),
    "d_b_0.5": ("impulse", "dynamic", "bernoulli", 0.5),
    "f_d_n_0.3": ("feature", "dynamic", "normal", 0.3),
    "grid": ("symmetric", "grid"),
}
EXPERIMENTS = {
    "table1_resnet": ("halftoning", "resnet", MODES["none"]),
    "table1_resnet_nib": ("halftoning", "resnet", MODES["s_n_0.3"]),
    "table1_unet": ("halftoning", "unet", MODES["none"]),
    "table1_unet_nib": ("halftoning", "unet", MODES["s_n_0.3"]),
    **{f"figure4_{name}": ("halftoning", "resnet", mode) for name, mode in MODES.items()},
    "figure4_blue": ("halftoning", "resnet", ("symmetric", "blue", "uniform")),  # beyond the paper
    "figure5_plain": ("autoencoder", "autoencoder", MODES["none"]),
    "figure5_additive": ("autoencoder", "autoencoder", ("additive", "stationary", "normal", 0.3)),
    "figure5_nib": ("autoencoder", "autoencoder", MODES["s_n_0.3"]),
    "figure5_nib_quiet": ("autoencoder", "autoencoder", MODES["s_n_0.3"]),  # beyond the paper
    **{
        f"table3_{name}{suffix}": ("invertible_grayscale", backbone, MODES[mode])
        for name, backbone in {
            "published": "invertible_grayscale_2018",
            "resnet": "invertible_grayscale_resnet",
            "subpixel": "invertible_grayscale",
        }.items()
        for suffix, mode in {"": "none", "_nib": "s_n_0.3"}.items()
    },
    **{
        f"table2_{name}{suffix}": ("semantic_synthesis", name, MODES[mode])
        for name in ("pix2pix", "spade")
        for suffix, mode in {"": "none", "_nib": "f_d_n_0.3"}.items()
    },
    "table3_resnet_nib_both": ("invertible_grayscale", "invertible_grayscale_resnet", MODES["s_n_0.3"]),
}
BOTH = {"table3_resnet_nib_both": {"decoder_nib": {"form": "symmetric"}}}  # what is more than the backbone's own choice
PAPER_TABLE1 = {
    "resnet": (36.051, 35.837), "resnet_nib": (36.461, 37.709), "unet": (34.764, 34.510), "unet_nib": (35.971, 37.063),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _compose_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "load_config", functools.cache(load_config))
        yield


def options(runs="runs", **changes):
    return Options(**({"images": None, "out": Path("out"), "runs": Path(runs), "seeds": (0,)} | changes))


@pytest.fixture(scope="module")
def jobs():
    """All jobs of each study, of one seed, at the small scale."""
    return {name: make_jobs(study, options()) for name, study in STUDIES.items()}


# --- what is compared


def test_every_experiment_is_known():
    shipped = Path(nibkit.__file__).parent.glob("configs/experiment/*.yaml")
    assert {file.stem for file in shipped} - {"none"} == EXPERIMENTS.keys()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_what_its_name_says(name):
    task, backbone, mode = EXPERIMENTS[name]
    config = load_config([f"experiment={name}"])
    assert config.task._target_.startswith(f"tasks.{task}.")
    assert (config.nib.form, config.nib.noise, config.nib.distribution, config.nib.scale)[: len(mode)] == mode
    # nothing else: with equal settings of the scale, steps and data are those of all others
    plain = cells.load_config((f"task={task}", f"backbone={backbone}"))
    for section in ("trainer", "data", "task", "backbone"):
        one, other = ({k: v for k, v in c[section].items() if k not in ("nib", "backbone")} for c in (config, plain))
        assert one == other | (BOTH.get(name, {}) if section == "backbone" else {})


def test_all_networks_and_modes_of_the_paper_are_there():
    table1 = {variant.name: variant for variant in STUDIES["table1"].variants}
    for name, (photo, comic) in PAPER_TABLE1.items():
        assert table1[name].published == {"photo": photo, "comic": comic}
        assert table1[name].experiment == f"table1_{name}"
        assert not table1[name].settings
        zeros = table1[f"{name}_zeros"]
        assert (zeros.experiment, zeros.settings) == (f"table1_{name}", ("backbone.padding=zeros",))
    assert [variant.name for variant in STUDIES["figure4"].variants] == [*MODES, "blue"]
    published = {variant.name: variant.published for variant in STUDIES["figure5"].variants if variant.published}
    assert published == {"plain": {"photo": 47.95}, "additive": {"photo": 35.54}, "nib": {"photo": 48.56}}
    published = {variant.name: variant.published for variant in STUDIES["table3"].variants if variant.published}
    assert published == {"published": {"photo": 38.411}, "published_nib": {"photo": 39.314}}


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_references_are_the_networks_without_nib_of_the_same_group(study):
    known = {variant.name: variant for variant in study.variants}
    assert len(known) == len(study.variants)
    for variant in study.variants:
        form = EXPERIMENTS[variant.experiment][2][0]
        assert (variant.reference is None) == (form == "none")
        if variant.reference:
            reference = known[variant.reference]
            assert reference.reference is None
            assert (reference.group, reference.settings) == (variant.group, variant.settings)


def test_a_study_trains_all_cells_alike(jobs):
    for name, study in STUDIES.items():
        for settings in study.scales.values():
            assert len([s for s in settings if s.startswith("trainer.max_steps=")]) == 1
        further = [s for settings in study.narrow.values() for s in settings]
        further += [s for variant in study.variants for s in variant.settings]
        # of the task only a rate that suits the network; never steps or data
        assert all(s.startswith(("backbone.", "task.optimizer.lr=")) for s in further)
        configs = [cells.load_config(job.cell.settings) for job in jobs[name]]
        assert all(c.trainer == configs[0].trainer and c.data == configs[0].data for c in configs)
        for variant, config in zip(study.variants, configs, strict=True):
            reference = next(
                (c for v, c in zip(study.variants, configs, strict=True) if v.name == variant.reference), config
            )
            extra = {"decoder_nib": None} if variant.experiment in BOTH else {}
            same = OmegaConf.merge(config.backbone, extra)
            assert same == reference.backbone
            assert config.task._target_ == reference.task._target_


def test_cells_are_shared_where_they_are_the_same_training_and_only_there(jobs):
    folders = {name: {job.variant.name: job.cell.folder for job in of_study} for name, of_study in jobs.items()}
    assert folders["table1"]["resnet"] == folders["figure4"]["none"]
    assert folders["table1"]["resnet_nib"] == folders["figure4"]["s_n_0.3"]
    every = [job.cell for of_study in jobs.values() for job in of_study]
    assert len({cell.folder for cell in every}) == len(every) - 2
    trainings = {}
    for cell in every:
        config = cells.load_config(cell.settings)
        trained = repr([(key, config[key]) for key in ("task", "backbone", "nib", "data", "trainer")])
        assert trainings.setdefault(cell.folder, trained) == trained
    assert len(set(trainings.values())) == len(trainings)


@pytest.fixture
def tiny(monkeypatch):
    """Table 1 of two variants and two steps."""
    shrink(monkeypatch)
    return lambda **changes: make_jobs(STUDIES["table1"], options(**changes))


def test_the_first_seed_of_all_comes_first(tiny):
    made = [(job.cell.seed, job.variant.name) for job in tiny(seeds=(3, 1))]
    assert made == [(3, "resnet"), (3, "resnet_nib"), (1, "resnet"), (1, "resnet_nib")]
    assert [job.cell.folder.name[:6] for job in tiny(seeds=(3, 1))] == ["seed3-", "seed3-", "seed1-", "seed1-"]
    assert not Path("runs").exists()


def test_another_training_has_another_folder(tiny):
    changes = ({}, {"limit": 2}, {"flat": Path("flat")}, {"train_images": Path("more")}, {"images": Path("photos")})
    (found, *others) = [tiny(**change)[0].cell.folder for change in changes]
    assert len({found, *others}) == len(changes)
    assert tiny(out=Path("elsewhere"), train=False, cells=("resnet",))[0].cell.folder == found


# --- on which images


def names(source):
    return sorted(source.name(index) for index in range(len(source)))


def prepared(job):
    data = make("data", cells.load_config(job.cell.settings).data)
    data.prepare()
    return {"train": names(data.train_images), "val": names(data.evaluation_images["val"]["photo"])} | {
        label: names(source) for label, source in data.evaluation_images["test"].items()
    }


def test_without_folders_the_embedded_images(tiny):
    found = prepared(tiny()[0])
    assert {key: len(value) for key, value in found.items()} == {
        "train": len(PHOTOS["train"]), "val": len(PHOTOS["val"]), "photo": len(PHOTOS["test"]),
        "comic": len(COMICS["test"]),
    }  # fmt: skip
    assert found["comic"] == [f"comic {seed}" for seed in COMICS["test"]]


def test_a_plain_folder_is_split_and_a_flat_one_is_judged_whole(tiny):
    make_images(Path("photos"), 20)
    make_images(Path("flat"), 3)
    found = prepared(tiny(images=Path("photos"), flat=Path("flat"))[0])
    assert {key: len(value) for key, value in found.items()} == {"train": 16, "val": 2, "photo": 2, "comic": 3}
    assert len({*found["train"], *found["val"], *found["photo"]}) == 20


def test_folders_train_and_val_are_kept_apart(tiny):
    make_images(Path("photos/train"), 8)
    make_images(Path("photos/val"), 3, seed=10)
    make_images(Path("flat"), 3)
    found = prepared(tiny(images=Path("photos"), flat=Path("flat"), limit=2)[0])
    assert {key: len(value) for key, value in found.items()} == {"train": 7, "val": 1, "photo": 2, "comic": 2}
    assert sorted([*found["train"], *found["val"]]) == [str(index) for index in range(8)]
    assert found["photo"] == ["10", "11"]


def test_trained_on_one_folder_and_judged_on_another(tiny):
    make_images(Path("photos"), 2)
    make_images(Path("more"), 10)
    found = prepared(tiny(images=Path("photos"), train_images=Path("more"))[0])
    assert {key: len(value) for key, value in found.items()} == {"train": 8, "val": 1, "photo": 2, "comic": 4}


# --- bad input


@pytest.fixture
def refused(capsys, tmp_path):
    """Call the command with bad input; return its one sentence. Nothing may be written."""

    def files():
        return {path for path in tmp_path.rglob("*") if "cache" not in path.parts and path.suffix != ".lock"}

    def call(*arguments):
        before = files()
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", *arguments])
        error = capsys.readouterr().err.removeprefix("training 2 cells by slrm\n")
        assert stop.value.code == 2
        assert error.startswith("nibkit reproduce: error: ")
        assert error.count("\n") == 1, error
        assert {path for path in files() - before if path.is_file()} == set()
        return error.removeprefix("nibkit reproduce: error: ").strip()

    return call


T, P = ["table1", "--seeds", "0"], ["table1", "--seeds", "0", "--images", "photos"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tabel1"], "unknown experiment 'tabel1' (did you mean 'table1'?); choose from: figure"),
        (["table5"], "unknown experiment 'table5' (did you mean 'table4'?); choose from: "),
        ([*T, "--cells", "resnet,resnet_nb"], "unknown cell of table1 'resnet_nb' (did you mean 'resnet_nib'?); choose "
         "from: resnet, resnet_nib"),
        ([*T, "--images", "none"], "--images='none' does not exist or is no folder; name a folder of images"),
        ([*P, "--flat", "none"], "--flat='none' does not exist or is no folder; name a folder of images"),
        ([*T, "--images", "photos/0.png"], "--images='photos/0.png' does not exist or is no folder; name a folder"),
        ([*T, "--images", "empty"], "image folder 'HOME/empty' holds no images; looked for .jpg"),
        ([*T, "--images", "few"], "image folder 'HOME/few' holds 2 image(s), too few to split; give at least 3, or "
         "folders train/ and val/"),
        ([*P, "--flat", "empty"], "image folder 'HOME/empty' holds no images; looked for"),
        ([*P, "--flat", "bad"], "2 image file(s) cannot be used: HOME/bad/a.png (not an image"),
        ([*T, "--images", "only"], "data.test: 'photo=HOME/only' has no images to judge on"),
        ([*P, "--out", "photos/0.png"], "--out='photos/0.png' cannot be written ('HOME/photos/0.png' refuses it); "
         "choose another folder"),
        ([*P, "--runs", "photos/0.png/x"], "--runs='photos/0.png/x' cannot be written ('HOME/photos/0.png' refuses"),
        ([*P, "--out", "taken"], "--out: 'taken/table1.html' is a folder where a file shall be; choose another folder"),
        ([*P, "--launch", "partition=gpu"], "--launch has settings for a launcher, but --launcher is not given; name"),
        ([*P, "--launcher", "slrm"], "unknown hydra/launcher 'slrm'"),
        ([*P, "--launcher", "basic", "--no-train"], "--launcher is for training, but --no-train is given; leave one"),
        ([*P, "--weights", "mine.ckpt"], "--weights is not for table1; leave it out"),
        (["figure3", "--cells", "unet"], "--cells is not for figure3; leave it out"),
        ([*T, "--scale", "paper"], "image set 'voc2012' is not in 'data/VOCdevkit/VOC2012' (there is no such folder); "
         "get PASCAL VOC2012"),
        ([*T, "--scale", "paper", "--home", "photos"], "image set 'voc2012' is not in 'photos/VOCdevkit/VOC2012'"),
        ([*P, "--scale", "paper"], "2 image file(s) cannot be used: HOME/photos/0.png (52x40 pixels, smaller than"),
    ],
)  # fmt: skip
def test_bad_input(refused, tmp_path, arguments, sentence):
    make_images(Path("photos"), 4)
    make_images(Path("few"), 2)
    make_images(Path("only/train"), 4)
    for folder in ("empty", "bad", "taken/table1.html"):
        Path(folder).mkdir(parents=True)
    Path("bad/a.png").write_text("this is no image")
    Image.new("L", (30, 9)).save("bad/b.png")
    assert refused(*arguments).startswith(sentence.replace("HOME", str(tmp_path)))
