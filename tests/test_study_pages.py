"""A study's Markdown, HTML page and plot: the right numbers in the right places, and nothing that breaks them."""

import base64
import copy
import io
import itertools
import json
import math
import re
import statistics
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from nibkit.reproduce import study_html, study_plot, study_text

PHOTO, COMIC = "photo", "comic"
PRIMARY = "psnr_sigma2.0"
VOID = {"img", "meta", "br", "hr", "link", "input"}


def spread(values):
    there = [value for value in values if value is not None]
    sd = statistics.stdev(there) if len(there) > 1 else None
    return {"mean": statistics.fmean(there) if there else None, "sd": sd, "n": len(there)}


def make_row(name, group, means, reference=None, paper=None, seeds=(0, 1, 2), grays=()):
    """A row whose figure of ``means[set][figure]`` rises by 1 % per seed."""
    each = [
        {"seed": seed, "seconds": 60.0 + seed,
         "images": {label: {figure: value * (1 + seed / 100) for figure, value in figures.items()}
                    for label, figures in means.items()},
         "grays": {figure: None if seed == 1 and figure == "anisotropy_db" else 0.25 + seed for figure in grays}}
        for seed in seeds
    ]  # fmt: skip
    over = {label: {figure: spread([seed["images"][label][figure] for seed in each]) for figure in figures}
            for label, figures in means.items()} if each else {}  # fmt: skip
    return {
        "name": name, "title": name.replace("_", ", "), "group": group, "reference": reference, "parameters": 46465,
        "settings": [f"experiment={name}"], "paper": paper or {}, "note": "", "seeds": each, "images": over,
        "grays": {figure: spread([seed["grays"][figure] for seed in each]) for figure in grays}, "difference": None,
    }  # fmt: skip


def compare(rows):
    """Fill in the differences, paired by seed."""
    by_name = {row["name"]: row for row in rows}
    for row in rows:
        other = by_name.get(row["reference"])
        partners = {seed["seed"]: seed for seed in other["seeds"]} if other else {}
        pairs = [(seed, partners[seed["seed"]]) for seed in row["seeds"] if seed["seed"] in partners]
        row["difference"] = {
            label: {figure: _difference([a["images"][label][figure] - b["images"][label][figure] for a, b in pairs])
                    for figure in row["images"][label]} for label in row["images"]
        } if other else None  # fmt: skip
    return rows


def _difference(values):
    return {**spread(values), "per_seed": values, "better": 0.93}


def make_content(rows, labels=(PHOTO, COMIC), figures=(PRIMARY, "psnr_sigma1.5", "ssim"), grays=()):
    titles = {PHOTO: ("photos256 (photos)", 88), COMIC: ("cartoons (flat)", 37)}
    return {
        "experiment": "table1", "title": "Table 1: CNN based halftoning", "question": "Is NIB above standard?",
        "protocol": {"scale": "small", "command": "nibkit reproduce table1 --images photos256",
                     "settings": ["trainer.max_steps=1500", "data=folder"], "steps": 1500, "seeds": [0, 1, 2],
                     "training": "795 images of photos256", "note": "Each halftone is of a whole image."},
        "versions": {"nibkit": "0.1.0", "torch": "2.15", "python": "3.11"},
        "sets": [{"label": label, "title": titles[label][0], "count": titles[label][1]} for label in labels],
        "figures": list(figures), "primary": figures[0], "gray_figures": list(grays),
        "paper": {"figure": figures[0], "note": "The paper's figures are of its own images.",
                  "sets": {PHOTO: "VOC", COMIC: "COMIC"}},
        "rows": compare(rows),
    }  # fmt: skip


def values(psnr, comic=None):
    return {label: {PRIMARY: value, "psnr_sigma1.5": value - 3, "ssim": value / 400}
            for label, value in ((PHOTO, psnr), (COMIC, comic or psnr + 1))}  # fmt: skip


def table1(seeds=(0, 1, 2)):
    """Eight variants in four groups."""
    grays = ("flat_std", "low_frequency_ratio", "anisotropy_db")
    rows = []
    for index, net in enumerate(("ResNet", "U-Net", "ResNet zeros", "U-Net zeros")):
        paper = ({PHOTO: 36.051, COMIC: 35.837}, {PHOTO: 36.461, COMIC: None}) if index == 0 else ({}, {})
        standard = f"{net}_standard"
        rows.append(make_row(standard, net, values(31 + index), None, paper[0], seeds, grays))
        rows.append(make_row(f"{net}_NIB", net, values(33.4 + index), standard, paper[1], seeds, grays))
    return make_content(rows, grays=grays)


def figure4(standard=31.0):
    """Eight noise modes in one group, against one variant without NIB."""
    rows = [make_row("standard", "NIB", values(standard), None, {COMIC: 35.8})]
    names = ("S-N-0.3", "D-N-0.3", "S-N-0.03", "S-U-0.3", "D-B-0.5", "F-D-N-0.3", "regular_grid, of periodic lines")
    rows += [make_row(name, "NIB", values(36 - i / 7), "standard", {COMIC: 37.7 - i / 10})
             for i, name in enumerate(names)]  # fmt: skip
    return make_content(rows)


def figure5():
    """Three autoencoders on one set, without constant grays."""
    papers = {"plain": 47.95, "additive noise": 35.54, "NIB": 48.56}
    rows = [make_row(name, "autoencoder", {PHOTO: {"psnr": 38.0 + i, "psnr_pooled": 37.0 + i, "mae": 0.01 / (i + 1),
                                                   "odd_figure": 0.123456}},
                     None if i == 0 else "plain", {PHOTO: paper})
            for i, (name, paper) in enumerate(papers.items())]  # fmt: skip
    return make_content(rows, (PHOTO,), ("psnr", "psnr_pooled", "mae", "odd_figure"))


def table3():
    """A pair without and one with NIB, judged on constant colours."""
    grays = ("flat_error", "flat_error_worst", "flat_gray_std")
    of_images = {label: {"psnr": 30.0, "psnr_pooled": 29.0, "gray_psnr": 28.0} for label in (PHOTO, COMIC)}
    rows = [make_row("pair, standard", "pair", of_images, grays=grays),
            make_row("pair, NIB", "pair", of_images, "pair, standard", grays=grays)]  # fmt: skip
    return make_content(rows, figures=("psnr", "psnr_pooled", "gray_psnr"), grays=grays)


def with_untrained():
    """Of table 1: one variant without any seed, one with two of three."""
    content = table1()
    untrained, partly = content["rows"][3], content["rows"][5]
    untrained.update(seeds=[], images={}, grays={}, difference=None, parameters=None, note="0 of 3")
    partly.update(seeds=partly["seeds"][1:], note="2 of 3 seeds trained")
    for label in (PHOTO, COMIC):
        for figure in content["figures"]:
            partly["images"][label][figure] = spread([seed["images"][label][figure] for seed in partly["seeds"]])
    compare(content["rows"])
    return content


CONTENTS = {
    "table1": table1,
    "figure4": figure4,
    "figure5": figure5,
    "table3": table3,
    "one_seed": lambda: table1(seeds=(0,)),
    "untrained": with_untrained,
    "degraded": lambda: figure4(standard=14.2),
}
every = pytest.mark.parametrize("name", CONTENTS)


def tables_of(markdown):
    """Tables of Markdown by their heading: rows of cells, the rule left out."""
    found, heading = {}, ""
    for line in markdown.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| ") and not line.startswith("| ---"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found.setdefault(heading, []).append([cell.strip().replace("\\|", "|").replace("`", "") for cell in cells])
    return found


class Page(HTMLParser):
    """Reads tables by heading, images, links and text, and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tables, self.images, self.links, self.tags = [], {}, [], [], []
        self.heading, self.title = "", ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "h2":
            self.heading = ""
        elif tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.heading][-1].append("")
        elif tag == "img":
            self.images.append(dict(attributes))
        elif tag == "a":
            self.links.append(dict(attributes))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "h1" in self.stack:
            self.title += data
        elif "h2" in self.stack:
            self.heading += data
        elif {"td", "th"} & set(self.stack):
            self.tables[self.heading][-1][-1] += data


def png(width=6, height=4, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 2, (height, width), dtype=np.uint8) * 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def row_of(table, start):
    """The one row that starts with a title, by its column's head."""
    (cells,) = [cells for cells in table[1:] if cells[0] == start]
    return dict(zip(table[0], cells, strict=True))


# Markdown


def test_a_sets_table_has_our_figures_beside_the_papers():
    table = tables_of(study_text.markdown(table1()))["photos256 (photos), 88 images"]
    assert len(table) == 9
    assert row_of(table, "ResNet, NIB") == {
        "variant": "ResNet, NIB", "parameters": "46465", "PSNR sigma 2.0, dB": "33.73 ± 0.33", "paper, VOC": "36.461",
        "difference": "+2.42 ± 0.02", "paper's difference": "+0.410", "images above the reference": "93 %",
    }  # fmt: skip
    standard = list(row_of(table, "ResNet, standard").values())
    assert standard == ["ResNet, standard", "46465", "31.31 ± 0.31", "-", "-", "36.051", "-"]


def test_further_figures_have_their_digits():
    halftones = tables_of(study_text.markdown(table1()))["Other figures, photos256 (photos)"]
    row = [cells for cells in halftones if cells[0] == "ResNet, NIB"]
    assert row == [["ResNet, NIB", "30.70 ± 0.30", "+2.42 ± 0.02", "0.0843 ± 0.0008", "+0.0061 ± 0.0001"]]
    errors = tables_of(study_text.markdown(figure5()))["Other figures, photos256 (photos)"]
    assert errors[0][1::2] == ["pooled PSNR, dB", "mean absolute error", "odd figure"]
    assert errors[2][1:] == ["38.38 ± 0.38", "+1.01 ± 0.01", "0.0050 ± 0.0001", "-0.0050 ± 0.0001",
                             "0.1247 ± 0.0012", "+0.0000 ± 0.0000"]  # fmt: skip


def test_the_papers_digits_are_its_own():
    table = tables_of(study_text.markdown(figure5()))["photos256 (photos), 88 images"]
    assert row_of(table, "additive noise")["paper, VOC"] == "35.54"
    assert row_of(table, "additive noise")["paper's difference"] == "-12.41"


def test_constant_grays_say_how_many_seeds_have_a_spectrum():
    row = row_of(tables_of(study_text.markdown(table1()))["Constant grays"], "U-Net, NIB")
    # .25, 1.25, 2.25; the anisotropy of seed 1 is missing
    assert list(row.values())[1:] == ["1.2500 ± 1.0000", "1.250 ± 1.000", "1.2 ± 1.4 (2 of 3 seeds)"]
    assert "Constant grays" not in study_text.markdown(figure5())


def test_constant_colours_stand_under_their_own_name_with_what_their_figures_mean():
    text = study_text.markdown(table3())
    tables = tables_of(text)
    assert "Constant grays" not in tables
    assert list(row_of(tables["Constant colours"], "pair, NIB").values())[1:] == ["1.2 ± 1.0"] * 2 + ["1.25 ± 1.00"]
    assert "216 colours" in text
    assert "0 is flatness degradation" in text
    assert row_of(tables["Other figures, cartoons (flat)"], "pair, NIB")["PSNR of the gray, dB"] == "28.28 ± 0.28"
    assert text.count("one PSNR over the error of all images") == 2  # with each set
    assert "one PSNR over" not in study_text.markdown(table1())


def test_every_seed_is_listed_with_its_difference_and_time():
    table = tables_of(study_text.markdown(table1()))["Every seed"]
    assert len(table) == 1 + 8 * 3
    assert ["ResNet, NIB", "2", "34.07", "+2.45", "35.09", "+2.45", "62.0"] in table
    assert ["ResNet, standard", "1", "31.31", "-", "32.32", "-", "61.0"] in table


def test_a_variant_without_seeds_says_so():
    tables = tables_of(study_text.markdown(with_untrained()))
    cells = row_of(tables["photos256 (photos), 88 images"], "U-Net, NIB (not trained)")
    assert set(list(cells.values())[1:]) == {"-"}
    assert not [row for row in tables["Every seed"] if row[0] == "U-Net, NIB"]
    assert row_of(tables["photos256 (photos), 88 images"], "ResNet zeros, NIB (2 of 3 seeds trained)")


def test_differences_belong_to_the_seeds_that_both_have():
    content = table1()
    content["rows"][1]["seeds"] = content["rows"][1]["seeds"][1:]
    content["rows"][0]["seeds"] = content["rows"][0]["seeds"][:2]
    compare(content["rows"])
    table = tables_of(study_text.markdown(content))["Every seed"]
    assert [row[1:4] for row in table if row[0] == "ResNet, NIB"] == [["1", "33.73", "+2.42"], ["2", "34.07", "-"]]


def test_one_seed_has_no_deviation_but_a_null_anywhere_is_a_dash():
    content = table1(seeds=(0,))
    content["rows"][1]["images"][PHOTO] = {PRIMARY: None}
    tables = tables_of(study_text.markdown(content))
    table = tables["photos256 (photos), 88 images"]
    assert row_of(table, "ResNet, NIB")["PSNR sigma 2.0, dB"] == "-"
    assert row_of(table, "U-Net, NIB")["PSNR sigma 2.0, dB"] == "34.40"
    assert "±" not in "".join(cell for rows in tables.values() for row in rows for cell in row)


def test_the_protocol_is_said_and_the_plot_is_shown_where_there_is_one():
    text = study_text.markdown(table1(), plot="table1.png")
    for part in ("`nibkit reproduce table1 --images photos256`", "`trainer.max_steps=1500 data=folder`", "1500 steps",
                 "seeds 0, 1, 2", "795 images of photos256", "equal steps", "torch 2.15", "](table1.png)"):  # fmt: skip
        assert part in text
    assert "![" not in study_text.markdown(table1())


def test_a_pipe_in_a_title_does_not_break_the_table():
    content = table1()
    content["rows"][1]["title"] = "NIB | a\nb"
    table = tables_of(study_text.markdown(content))["cartoons (flat), 37 images"]
    assert {len(row) for row in table} == {7}
    assert row_of(table, "NIB | a b")


# HTML


@every
def test_the_page_is_well_formed_and_has_the_tables_of_the_markdown(name):
    content = CONTENTS[name]()
    page = Page(study_html.page(content, [("plot", png())]))
    assert page.title == content["title"]
    assert page.tables == tables_of(study_text.markdown(content))
    assert len(page.tables) >= 4


def test_the_page_needs_nothing_from_elsewhere():
    text = study_html.page(table1(), [("plot", png()), ("blow-up", png())])
    assert not re.search(r"https?://|//cdn|@import|<link|<iframe", text)
    assert all(source.startswith("data:") for source in re.findall(r'\bsrc="([^"]*)"', text))
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_hostile_texts_are_escaped():
    hostile = "</h1><script>alert('x')</script>\" onload=\"$title & <b>"
    content = table1()
    content["title"] = content["question"] = content["experiment"] = hostile
    content["rows"][0]["title"] = content["sets"][0]["title"] = hostile
    page = Page(study_html.page(content, [("plot", png()), (hostile, png())]))
    assert page.title == hostile
    assert page.tags.count("script") == 1
    assert "b" not in page.tags
    assert page.images[1]["alt"] == hostile
    assert not [image for image in page.images if "onload" in image]
    assert page.links[0]["download"] == hostile + ".json"


def test_pictures_and_values_round_trip():
    content, plot, halftone = table1(), png(30, 20), png(7, 5, seed=1)
    page = Page(study_html.page(content, [("plot", plot), ("blow-up", halftone)]))
    for image, data in zip(page.images, (plot, halftone), strict=True):
        kind, _, text = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(text) == data
    assert [(image["width"], image["height"]) for image in page.images] == [("30", "20"), ("7", "5")]
    assert [image["class"] for image in page.images] == ["plot", "halftone"]
    assert json.loads(base64.b64decode(page.links[0]["href"].partition(",")[2])) == content
    assert page.links[0]["download"] == "table1.json"


def test_halftones_zoom_pixel_by_pixel():
    text = study_html.page(table1(), [("plot", png()), ("a", png()), ("b", png())])
    assert text.count('class="zoom" data-zoom="1"') == 2
    assert re.search(r"\.zoom img \{[^}]*max-width: none;[^}]*image-rendering: pixelated", text)
    assert "{1: 2, 2: 4, 4: 1}" in text


def test_a_page_without_pictures_and_a_picture_that_is_none():
    assert Page(study_html.page(table1(), [])).images == []
    with pytest.raises(ValueError, match="'blow-up' is not a PNG"):
        study_html.page(table1(), [("blow-up", b"GIF89a")])


# plot


def drawn(content):
    figure = study_plot.plot(content)
    FigureCanvasAgg(figure).draw()
    return figure


def points(axes, label):
    """x and y of all marks of one kind."""
    lines = [line for line in axes.lines if line.get_label() == label]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def error_bars(axes):
    """Mean and both ends of the bar, by position."""
    found = {}
    for container in axes.containers:
        line, _, bars = container.lines
        ends = bars[0].get_segments()[0][:, 1] if bars else None
        found[round(float(line.get_xdata()[0]))] = (float(line.get_ydata()[0]), ends)
    return found


@every
def test_marks_are_where_the_content_says_and_within_the_limits(name):
    content = CONTENTS[name]()
    figure = study_plot.plot(content)
    assert len(figure.axes) == len(content["sets"])
    for axes, images in zip(figure.axes, content["sets"], strict=True):
        label, primary = images["label"], content["primary"]
        low, high = axes.get_ylim()
        bars, seeds, paper = error_bars(axes), [], []
        for x, row in enumerate(content["rows"]):
            over = row["images"].get(label, {}).get(primary)
            assert (x in bars) == bool(over)
            if over:
                mean, ends = bars[x]
                assert mean == over["mean"]
                assert (ends is None) == (over["sd"] is None)
                if ends is not None:
                    np.testing.assert_allclose(ends, [mean - over["sd"], mean + over["sd"]])
                    assert low < ends.min() < ends.max() < high
            seeds += [(x + 0.2, seed["images"][label][primary]) for seed in row["seeds"]]
            value = row["paper"].get(label)
            paper += [] if value is None else [(x - 0.2, value)]
        assert points(axes, "each seed") == pytest.approx(np.array(seeds))
        assert points(axes, "the paper's value, of its own images") == [pytest.approx(point) for point in paper]
        assert all(low < y < high for _, y in seeds + paper)


def test_the_limits_include_deviations_seeds_and_the_papers_values():
    content = table1()
    content["rows"][2]["images"][PHOTO][PRIMARY]["sd"] = 9.0
    content["rows"][3]["seeds"][0]["images"][COMIC][PRIMARY] = 60.0
    content["rows"][4]["paper"] = {COMIC: 12.0}
    photo, comic = study_plot.plot(content).axes
    assert photo.get_ylim()[0] < 32.32 - 9
    assert photo.get_ylim()[1] > 32.32 + 9
    assert comic.get_ylim()[0] < 12
    assert comic.get_ylim()[1] > 60


def test_the_axis_is_cut_close_to_the_values():
    low, high = study_plot.plot(table1()).axes[0].get_ylim()
    assert 30 < low < 31
    assert 37 < high < 38


def test_limits_of_few_values():
    assert study_plot.limits([]) == (0, 1)
    for value in (36.0, 0.0, -12.0):
        low, high = study_plot.limits([value])
        assert low < value < high


def test_each_group_has_its_reference_as_a_dashed_line():
    content = table1()
    axes = study_plot.plot(content).axes[0]
    lines = [line for line in axes.lines if line.get_label() == "reference"]
    assert [line.get_linestyle() for line in lines] == ["--"] * 4
    for index, line in enumerate(lines):
        assert list(line.get_ydata()) == [content["rows"][2 * index]["images"][PHOTO][PRIMARY]["mean"]] * 2
        assert 2 * index - 0.5 < min(line.get_xdata()) < 2 * index
        assert 2 * index + 1 < max(line.get_xdata()) < 2 * index + 1.5
    (line,) = [line for line in study_plot.plot(figure4()).axes[0].lines if line.get_label() == "reference"]
    assert min(line.get_xdata()) < 0
    assert max(line.get_xdata()) > 7


def test_values_of_another_figure_than_the_papers_are_not_drawn_together():
    content = table1()
    content["paper"]["figure"] = "ssim"
    assert not points(study_plot.plot(content).axes[0], "the paper's value, of its own images")
    assert "diamond" not in study_text.markdown(content)


def test_the_legend_explains_each_mark_once():
    texts = [text.get_text() for text in study_plot.plot(table1()).legends[0].get_texts()]
    assert sorted(texts) == ["each seed", "mean over seeds, ± standard deviation", "reference",
                             "the paper's value, of its own images"]  # fmt: skip


@pytest.mark.parametrize("words", ["with many words", "that is longer still, not in the paper (not trained)"])
@pytest.mark.parametrize("count", [1, 4, 5, 10])
def test_labels_of_neighbours_do_not_overlap(count, words):
    rows = [make_row(f"U-Net {i}_of a long name {words}", "group", values(30 + i)) for i in range(count)]
    axes = drawn(make_content(rows)).axes[-1]
    labels = axes.get_xticklabels()
    places = axes.transData.transform([(x, 0) for x in range(count)])[:, 0]
    slant = math.radians(labels[0].get_rotation())
    for label in labels:
        label.set_rotation(0)
    boxes = [label.get_window_extent() for label in labels]
    # slanted labels are parallel strips: their distance is that of their places times the sine
    free = np.diff(places) * (math.sin(slant) if slant else 1)
    for space, (a, b) in zip(free, itertools.pairwise(boxes), strict=True):
        assert space > (max(a.height, b.height) if slant else (a.width + b.width) / 2)
    assert all(label.get_text() for label in labels)


def test_all_that_is_written_lies_within_the_picture():
    for make in (figure4, figure5, with_untrained):
        figure = drawn(make())
        inside = figure.bbox
        for text in [*figure.legends[0].get_texts(), *figure.axes[-1].get_xticklabels(), figure._suptitle]:
            box = text.get_window_extent()
            assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
            assert inside.y0 <= box.y0 <= box.y1 <= inside.y1


def test_nothing_trained_and_dollars_in_titles_draw_all_the_same():
    content = copy.deepcopy(table1())
    content["title"] = content["rows"][0]["title"] = r"$\broken{$ costs $5"
    for row in content["rows"]:
        row.update(seeds=[], images={}, grays={}, difference=None, paper={})
    figure = drawn(content)
    assert not figure.legends
    assert figure.axes[0].get_ylim() == (0, 1)
    assert "(not trained)" in figure.axes[-1].get_xticklabels()[1].get_text().replace("\n", " ")


def test_a_set_that_the_paper_has_no_values_of_has_no_columns_for_them():
    content = table1()
    for row in content["rows"]:
        row["paper"].pop("comic", None)
    tables = tables_of(study_text.markdown(content))
    heads = {title: table[0] for title, table in tables.items() if title.endswith(" images")}
    (photos,) = (head for title, head in heads.items() if title.startswith("photos256"))
    (flat,) = (head for title, head in heads.items() if not title.startswith("photos256"))
    assert photos[-2:] == ["paper, VOC", "paper's difference"]
    assert flat == photos[:-2]
