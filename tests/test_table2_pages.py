"""Table 2's page: the right numbers and sentences in the right places, reckoned from made-up figures."""

import copy
import re
import statistics

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from test_study_pages import Page, row_of, tables_of

from nibkit.reproduce import study_html
from nibkit.reproduce.study_text import text
from nibkit.reproduce.table2_answers import answers
from nibkit.reproduce.table2_cells import VARIANTS
from nibkit.reproduce.table2_collect import differences
from nibkit.reproduce.table2_plot import bound, plot
from nibkit.reproduce.table2_text import PHOTOS, TRAINING, sections

PHOTO = {"miou": 0.8, "pixel_accuracy": 0.9, "pixel_accuracy_void_wrong": 0.85, "texture_std": 12.0,
         "texture_ratio": 1.0, "texture_flat_share": 0.1, "texture_spectrum_db": 0.0, "texture_repeat": 0.25,
         "iou_sky": 0.9, "iou_car": None}  # fmt: skip
STANDARD = {"fid": 70.0, "fid_images": 500.0, "kid": 0.05, "l1": 0.3, **PHOTO, "miou": 0.6, "texture_std": 6.0,
            "texture_ratio": 0.5, "texture_flat_share": 0.3, "texture_spectrum_db": 9.0, "texture_repeat": 0.3,
            "iou_sky": 0.7}  # fmt: skip
NIB = {**STANDARD, "fid": 55.0, "miou": 0.595, "texture_std": 11.0, "texture_ratio": 1.5, "texture_repeat": 0.5}
STEP = {"fid": 2.0, "miou": 0.001, "texture_ratio": 0.01, "texture_std": 4.0}  # by which a figure rises per seed


def spread(values):
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values) if values else None, "sd": sd, "n": len(values)}


def figures_of(base, seed):
    return {name: value if value is None else value + seed * STEP.get(name, 0.0) for name, value in base.items()}


def make_content(trained=None):
    """A page on which all variants have seeds 0, 1, 2, or those in ``trained`` by name."""
    by_name = {}
    for variant in VARIANTS:
        seeds = (trained or {}).get(variant.name, (0, 1, 2))
        every = {seed: figures_of(NIB if variant.reference else STANDARD, seed) for seed in seeds}
        other = by_name[variant.reference]["every"] if variant.reference else {}
        names = list(NIB) if every else []
        by_name[variant.name] = {
            "name": variant.name, "title": variant.title, "group": variant.group, "reference": variant.reference,
            "parameters": 1234567, "steps": 100, "settings": ["experiment=x"], "paper": dict(variant.published),
            "note": "" if len(seeds) == 3 else f"{len(seeds)} of 3 seeds trained",
            "seeds": [{"seed": seed, "seconds": 60.0, "figures": each} for seed, each in every.items()],
            "figures": {n: spread([e[n] for e in every.values() if e[n] is not None]) for n in names},
            "difference": differences(every, other) if variant.reference else None, "every": every,
        }  # fmt: skip
    rows = [{key: value for key, value in row.items() if key != "every"} for row in by_name.values()]
    return {
        "experiment": "table2", "title": "Table 2: semantic synthesis",
        "protocol": {"scale": "small", "command": "nibkit reproduce table2", "seeds": [0, 1, 2], "data": "streets",
                     "height": 96, "width": 128, "training_photos": 600, "photos": 500},
        "versions": {"nibkit": "0.1.0"}, "evaluator": ["fid by Inception of torch-fidelity"],
        "classes": ["sky", "car"], "figures": list(NIB), "photos": PHOTO, "training_photos": {"fid": 31.5, "kid": 0.01},
        "rows": rows,
    }  # fmt: skip


def page_of(content):
    return text(content["title"], sections(content), "table2.png")


def without(content, *names):
    """The same page without some figures."""
    content = copy.deepcopy(content)
    content["figures"] = [name for name in content["figures"] if name not in names]
    for row in content["rows"]:
        for place in (row["figures"], row["difference"] or {}, *(seed["figures"] for seed in row["seeds"])):
            for name in names:
                place.pop(name, None)
    return content


# --- tables


def test_the_table_has_mean_and_spread_over_seeds_beside_the_papers():
    table = tables_of(page_of(make_content()))["Distance and segmentation"]
    row = row_of(table, "SPADE, NIB")
    assert row["parameters"] == "1.23 M"
    assert row["FID"] == "57.0 ± 2.0"  # of 55, 57, 59
    assert row["mIoU, %"] == "59.60 ± 0.10"
    assert row["accuracy with void as wrong, %"] == "85.0 ± 0.0"
    assert row["KID x 1000"] == "50.00 ± 0.00"
    assert (row["paper's mIoU, %"], row["paper's FID"]) == ("61.9", "54.6")
    assert row_of(table, "Pix2Pix, NIB")["paper's FID"] == "88.1"


def test_the_photos_are_floor_and_ceiling():
    table = tables_of(page_of(make_content()))["Distance and segmentation"]
    ceiling, floor = row_of(table, PHOTOS), row_of(table, TRAINING)
    assert (ceiling["mIoU, %"], ceiling["FID"]) == ("80.00", "-")
    assert (floor["mIoU, %"], floor["FID"]) == ("-", "31.5")
    assert row_of(tables_of(page_of(make_content()))["Texture in large regions"], PHOTOS)["repetition"] == "0.25"


def test_differences_are_of_the_same_seed():
    mine = {0: {"fid": 5.0, "miou": None}, 1: {"fid": 9.0, "miou": 0.5}, 2: {"fid": 1.0, "miou": 0.5}}
    found = differences(mine, {1: {"fid": 10.0, "miou": 0.25}, 0: {"fid": 8.0, "miou": 0.5}})
    assert found["fid"] == {"mean": -2.0, "sd": pytest.approx(2**0.5), "n": 2, "per_seed": {"0": -3.0, "1": -1.0}}
    assert found["miou"] == {"mean": 0.25, "sd": None, "n": 1, "per_seed": {"1": 0.25}}


def test_every_seed_has_its_own_row_and_difference():
    content = make_content({"spade_nib": (0, 2)})
    tables = tables_of(page_of(content))
    every = [row for row in tables["Every seed"] if row[0] == "SPADE, NIB"]
    assert [row[1:3] for row in every] == [["0", "55.0"], ["2", "59.0"]]
    gains = tables["NIB minus standard"]
    assert [row[0] for row in gains if row[0].startswith("SPADE")] == ["SPADE, mean", "SPADE, seed 0", "SPADE, seed 2"]
    assert row_of(gains, "SPADE, seed 2")["FID"] == "-15.0"
    assert row_of(gains, "SPADE, mean")["mIoU, %"] == "-0.50 ± 0.00"


def test_a_class_that_occurs_nowhere_has_a_dash():
    table = tables_of(page_of(make_content()))["Classes"]
    assert row_of(table, "sky")["SPADE, NIB"] == "70.0"
    assert row_of(table, "sky")[PHOTOS] == "90.0"
    assert set(list(row_of(table, "car").values())[1:]) == {"-"}


def test_what_is_not_trained_is_an_empty_row_with_a_note():
    page = page_of(make_content({"spade": (), "spade_nib": ()}))
    row = row_of(tables_of(page)["Distance and segmentation"], "SPADE, NIB (not trained)")
    assert (row["FID"], row["mIoU, %"], row["paper's FID"]) == ("-", "-", "54.6")
    assert "SPADE: not trained with and without NIB on the same seed" in page
    page = page_of(make_content({"spade_nib": (1,)}))
    assert row_of(tables_of(page)["Distance and segmentation"], "SPADE, NIB (1 of 3 seeds trained)")["FID"] == "57.0"


def test_the_page_says_what_judged_and_how_figures_compare():
    page = page_of(make_content())
    assert "fid by Inception of torch-fidelity" in page
    assert "DRN-D-105" in page
    assert "500 to judge on, 128x96 pixels" in page
    few = make_content() | {"training_photos": None}
    assert "fewer training photos than test photos" in page_of(few)
    assert TRAINING not in [row[0] for row in tables_of(page_of(few))["Distance and segmentation"]]
    assert "training photos than" not in page_of(without(few, "fid", "kid"))


@pytest.mark.parametrize("trained", [None, {"pix2pix": (), "spade_nib": (0,)}])
def test_html_has_the_tables_of_the_markdown(trained):
    content = make_content(trained)
    html = Page(study_html.document(content["title"], sections(content), [], [], content))
    assert html.tables == tables_of(page_of(content))


# --- answers


def answer(content, group):
    (found,) = [line for line in answers(content) if line.startswith(group)]
    return found


def test_the_answer_has_the_distance_and_the_spread():
    assert "FID 57.0 with NIB against 72.0 (-15.0, beyond the spread of seeds), lower in 3 of 3 seeds." in answer(
        make_content(), "SPADE, 3 seeds: "
    )


def test_a_difference_smaller_than_one_of_both_spreads_is_within():
    content = make_content()
    content["rows"][2]["figures"]["fid"]["sd"] = 15.5
    assert "(-15.0, within the spread of seeds)" in answer(content, "SPADE")
    content["rows"][2]["figures"]["fid"]["sd"] = 14.5
    assert "(-15.0, beyond the spread of seeds)" in answer(content, "SPADE")


def test_a_difference_that_varies_more_than_it_is_large_is_within():
    content = make_content()
    next(row for row in content["rows"] if row["name"] == "spade_nib")["difference"]["fid"]["sd"] = 15.5
    assert "(-15.0, within the spread of seeds)" in answer(content, "SPADE")


def test_of_one_seed_the_spread_is_not_known():
    found = answer(make_content({"spade": (0,), "spade_nib": (0, 1)}), "SPADE, 1 seed: ")
    assert "(-15.0, the spread of seeds is not known), lower in 1 of 1 seeds" in found


@pytest.mark.parametrize(
    ("change", "verdict"),
    [(-0.0099, "kept within 1 point"), (-0.0101, "lower by more than 1 point"), (0.0099, "kept within 1 point"),
     (0.02, "higher by more than 1 point")],
)  # fmt: skip
def test_miou_is_kept_within_a_point(change, verdict):
    content = make_content()
    content["rows"][3]["difference"]["miou"]["mean"] = change
    assert re.search(rf"mIoU [^:]*: {verdict}\.", answer(content, "SPADE"))


def test_texture_is_nearer_by_figure():
    found = answer(make_content(), "SPADE")
    nearer, others = re.search(r"Nearer to the photos' texture: (.*)\. No nearer to it: (.*)\.", found).groups()
    # a ratio of 1.5 is nearer to 1 than .5, a repetition of .5 is farther from .25 than .3, the others are equal
    assert "texture ratio 1.51 with NIB against 0.51 (+1.00, beyond the spread of seeds), 1.00 wanted" in nearer
    assert "deviation 15.00 with NIB against 10.00 levels" in others  # 12 wanted: 3 off, and 2
    assert "repetition 0.50" in others
    assert "flat patches 30.0 with NIB against 30.0 %" in others


def test_what_was_not_measured_is_said():
    content = without(make_content(), "fid", "kid", "miou", *(name for name in NIB if name.startswith("texture_")))
    assert answer(content, "SPADE") == (
        "SPADE, 3 seeds: No Fréchet distance was measured. No mIoU was measured. No texture was measured."
    )
    assert "Texture in large regions" not in tables_of(page_of(content))


# --- plot


def test_the_plot_shows_each_seed_mean_and_the_photos():
    content = make_content()
    figure = plot(content)
    FigureCanvasAgg(figure).draw()
    panels = {axes.get_title().split("\n")[0]: axes for axes in figure.axes}
    assert list(panels) == ["FID", "mIoU, %", "texture ratio", "flat patches, %", "spectrum off by, dB"]
    drawn = [list(line.get_ydata()) for line in panels["FID"].lines]
    assert [55.0, 57.0, 59.0] in drawn
    assert [31.5, 31.5] in drawn
    assert [57.0] in drawn
    assert [80.0, 80.0] in [list(line.get_ydata()) for line in panels["mIoU, %"].lines]
    assert bound(content, "texture_ratio") == 1.0
    low, high = panels["FID"].get_ylim()
    assert low < 31.5
    assert high > 74.0


@pytest.mark.parametrize("trained", [{"spade": (0,)}, {variant.name: () for variant in VARIANTS}])
def test_the_plot_of_little(trained):
    content = make_content(trained) | {"training_photos": None}
    FigureCanvasAgg(plot(content)).draw()
    FigureCanvasAgg(plot(without(content, *NIB))).draw()
