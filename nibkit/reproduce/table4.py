"""Table 4 and Figure 8: dithering by classical methods and networks, on the same images."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nibkit import __version__
from nibkit.data.folder import image_progress
from nibkit.data.scan import find_images
from nibkit.errors import UserError
from nibkit.files import whole_file, write_json
from nibkit.plots import save_plot
from nibkit.reproduce import Options, paper
from nibkit.reproduce.blowups import draw_blowups
from nibkit.reproduce.cells import Cell, check_data, data_settings, make_cell, train
from nibkit.reproduce.evaluate import Evaluation, evaluate, read_inputs
from nibkit.reproduce.frontier import draw_frontier
from nibkit.reproduce.judge import Input, gray_inputs
from nibkit.reproduce.methods import Method, classical_method, network_method
from nibkit.reproduce.render import markdown
from nibkit.reproduce.results import check_folders, say
from nibkit.reproduce.summary import IMAGE_FIGURES, image_figures, over_seeds, paired
from nibkit.sheet import save_picture
from nibkit.weights import read_weights, shipped

FILES = ("table4.md", "table4.json", "table4.png", "table4_blowups.png")
TONE_WEIGHTS = (0.98, 0.99, 0.995, 0.999)
MASK = 512  # side of the void-and-cluster mask, pixels
REFERENCE = "ostromoukhov"
SHOWN = ("ostromoukhov", "pang_0.99", "dbs_1.0_white_noise")  # in the blow-ups, before all networks

# what the scales leave as the default configuration has it is the same for all cells
SCALE_SETTINGS = {
    "small": ("task=dithering", "trainer.max_steps=2000"),
    "medium": ("task=dithering", "trainer.max_steps=9000"),
    "paper": ("task=dithering", "trainer.max_steps=50000", "backbone.width=32", "data.batch_size=8",
              "task.optimizer.lr=0.001"),
}  # fmt: skip
ABLATION = {
    "dithering": ("trained: NIB, L_B", ()),
    "without_blue_noise": ("trained: NIB, no L_B", ("task.blue_noise_weight=0",)),
    "without_nib": ("trained: no NIB, L_B", ("nib=none",)),
    "without_both": ("trained: no NIB, no L_B", ("nib=none", "task.blue_noise_weight=0")),
}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name: for programs.
        title: for people.
        kind: ``classical``, ``shipped``, ``given`` or ``trained``.
        methods: one per seed; none if there is nothing to judge.
        published: the paper's row; see :mod:`nibkit.reproduce.paper`.
        note: why there is nothing to judge.
        tone_weight: of Pang's frontier.
    """

    name: str
    title: str
    kind: str
    methods: tuple[Method, ...]
    published: str | None = None
    note: str = ""
    tone_weight: float | None = None


def table4(options: Options) -> str:
    """Train what is missing, judge all methods, write table and pictures; return the Markdown.

    Raises:
        UserError: bad input, told before anything is trained; or a training that failed, after the rest is written.
    """
    folder = _check_folders(options)
    images = read_inputs(find_images(folder, "--images")[: options.limit])
    networks = [*_shipped_rows(), *_given_rows(options.weights)]
    cells = _cells(options)
    failures = _train(cells, options) if options.train else {}
    rows = [*_classical_rows(), *networks, *_trained_rows(cells, failures)]
    evaluations = _evaluate(rows, images, options.runs)
    content = _content(rows, evaluations, images, folder, options)
    text = _write(content, rows, images, options)
    if failures:
        raise UserError(f"{'; '.join(failures.values())}; the other rows are in '{options.out / 'table4.md'}'")
    return text


def _check_folders(options: Options) -> Path:
    """Check that the results can be written at the end; return the folder of images."""
    if options.images is None:
        raise UserError("table4 needs images to judge on; give --images DIR")
    check_folders(options, FILES)
    if options.train_images:
        find_images(options.train_images, "--train-images")
    return options.images


def _classical_rows() -> list[Row]:
    simple = {"white_noise": "white-noise threshold", "floyd_steinberg": "Floyd-Steinberg"}
    rows = [Row(name, title, "classical", (classical_method(name),)) for name, title in simple.items()]
    rows.append(Row(REFERENCE, "Ostromoukhov", "classical", (classical_method(REFERENCE),), REFERENCE))
    mask = classical_method("void_and_cluster", size=MASK)
    rows.append(Row("void_and_cluster", f"void and cluster, {MASK}x{MASK}", "classical", (mask,)))
    descent = classical_method("block_descent")
    rows.append(Row("block_descent", "void and cluster, refined", "classical", (descent,)))
    return [*rows, *_search_rows(), *_pang_rows()]


def _search_rows() -> Iterator[Row]:
    for sigma in (1.5, 1.0):
        for start, said in (("ostromoukhov", "Ostromoukhov"), ("white_noise", "white noise")):
            method = classical_method("dbs", sigma=sigma, start=start)
            yield Row(f"dbs_{sigma}_{start}", f"DBS sigma {sigma} from {said}", "classical", (method,))


def _pang_rows() -> Iterator[Row]:
    for weight in TONE_WEIGHTS:
        method = classical_method("pang", tone_weight=weight)
        title = f"Pang, tone weight {weight:g}"
        published = "pang" if weight == TONE_WEIGHTS[0] else None  # the weight of later re-implementations
        yield Row(f"pang_{weight:g}", title, "classical", (method,), published, tone_weight=weight)


def _shipped_rows() -> list[Row]:
    """Return the rows of the weights that come with nibkit and make halftones of gray images."""
    names = [name for name in shipped() if read_weights(name).task in ("dithering", "halftoning")]
    return [row for name in names for row in _network_rows(name, f"shipped: {name}", f"shipped_{name}", "shipped")]


def _network_rows(weights: str, title: str, name: str, kind: str) -> Iterator[Row]:
    """Yield the row of a network, and where its weights ask for refinement also that of the network alone."""
    yield Row(name, title, kind, (network_method(weights),))
    if read_weights(weights).refinement.get("sweeps"):
        yield Row(f"{name}_alone", f"{title}, unrefined", kind, (network_method(weights, sweeps=0),))


def _given_rows(weights: Sequence[str]) -> list[Row]:
    """Return the rows of the user's weights; those that are shipped have theirs already."""
    given = [name for name in weights if name not in shipped()]
    short = [_short(name) for name in given]
    titles = [label if short.count(label) == 1 else name for name, label in zip(given, short, strict=True)]
    named = zip(given, titles, strict=True)
    return [row for name, title in named for row in _network_rows(name, f"given: {title}", f"given_{title}", "given")]


def _short(weights: str) -> str:
    """Return the name of a file of weights, of a checkpoint that of its run folder."""
    path = Path(weights)
    return path.parent.parent.name if path.parent.name == "checkpoints" and path.parent.parent.name else path.stem


def _cells(options: Options) -> list[Cell]:
    """Return all cells of the ablation, seed after seed, so that the first seed of all is there first."""
    base = (*SCALE_SETTINGS[options.scale], *data_settings(options.train_images))
    return [
        make_cell(name, seed, (*base, *settings), options.runs)
        for seed in options.seeds
        for name, (_, settings) in ABLATION.items()
    ]


def _train(cells: Sequence[Cell], options: Options) -> dict[Path, str]:
    """Train the cells that are not finished; return what went wrong, by run folder."""
    missing = [cell for cell in cells if not cell.finished]
    if missing and options.train_images:
        check_data(missing[0])
    failures = {}
    for index, cell in enumerate(missing, start=1):
        say(f"training {index} of {len(missing)}: {cell.title} in {cell.folder}")
        if problem := train(cell):
            failures[cell.folder] = problem
    return failures


def _trained_rows(cells: Sequence[Cell], failures: dict[Path, str]) -> Iterator[Row]:
    """Yield a row per cell of the ablation, of the seeds that are trained."""
    for name, (title, _) in ABLATION.items():
        mine = [cell for cell in cells if cell.name == name]
        methods = tuple(network_method(str(cell.checkpoint)) for cell in mine if cell.finished)
        published = name if name in paper.TABLE4 else None
        failed = sum(cell.folder in failures for cell in mine)
        left = f"{len(methods)} of {len(mine)} seeds trained" + (f", {failed} failed" if failed else "")
        yield Row(name, title, "trained", methods, published, left if len(methods) < len(mine) else "")


def _evaluate(rows: Sequence[Row], images: Sequence[Input], runs: Path) -> dict[str, list[Evaluation]]:
    """Return the evaluations of each row's methods by its name."""
    grays, evaluations = gray_inputs(), {}
    for index, row in enumerate(rows, start=1):
        say(f"judging {index} of {len(rows)}: {row.title}")
        with image_progress(row.title) as progress:
            evaluations[row.name] = [evaluate(method, images, grays, runs, progress) for method in row.methods]
    return evaluations


def _content(
    rows: Sequence[Row],
    evaluations: dict[str, list[Evaluation]],
    images: Sequence[Input],
    folder: Path,
    options: Options,
) -> dict[str, Any]:
    """Return all results in plain values."""
    trained_on = options.train_images.name if options.train_images else "the embedded data"
    return {
        "experiment": "table4",
        "images": {"folder": folder.absolute().name, "count": len(images), "names": [i.name for i in images]},
        "training": {"scale": options.scale, "settings": list(SCALE_SETTINGS[options.scale]), "images": trained_on,
                     "seeds": list(options.seeds)},
        "versions": {"nibkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "paper": {"set": paper.SET} | {name: figures._asdict() for name, figures in paper.TABLE4.items()},
        "rows": [_row_content(row, evaluations[row.name], evaluations[REFERENCE]) for row in rows],
    }  # fmt: skip


def _row_content(row: Row, seeds: Sequence[Evaluation], reference: Sequence[Evaluation]) -> dict[str, Any]:
    """Return a row in plain values; without ``figures`` where there is nothing to judge."""
    head: dict[str, Any] = {
        "name": row.name,
        "title": row.title,
        "kind": row.kind,
        "paper": row.published,
        "note": row.note,
    }
    if row.tone_weight is not None:
        head["tone_weight"] = row.tone_weight
    if not seeds:
        return head
    differences = {name: paired(seeds, reference, name) for name in IMAGE_FIGURES}
    figures = {"images": image_figures(seeds), "figures": over_seeds(seeds), "minus_ostromoukhov": differences}
    return head | {"threads": row.methods[0].threads} | figures


def _write(content: dict[str, Any], rows: Sequence[Row], images: Sequence[Input], options: Options) -> str:
    """Draw everything, then write everything; return the Markdown."""
    text = markdown(content)
    shown = [row for row in rows if row.methods and (row.name in SHOWN or row.kind != "classical")]
    sheet = draw_blowups([(row.title, row.methods[0]) for row in shown], images, options.runs)
    plot = draw_frontier(content)
    with whole_file(options.out / FILES[0]) as partial:
        partial.write_text(text, encoding="utf-8")
    write_json(options.out / FILES[1], content)
    save_plot(plot, options.out / FILES[2])
    save_picture(sheet, options.out / FILES[3])
    say(f"wrote {', '.join(FILES)} to {options.out}")
    return text
