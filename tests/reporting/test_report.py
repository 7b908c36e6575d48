"""The report, opened in headless Chromium with the network off, and its text for any numbers."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import geopandas as gpd
import h3
import pandas as pd
import pytest
import shapely
from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import Browser, Page

from capetown.pools.scoring import METRICS
from capetown.reporting.facts import Facts
from capetown.reporting.figures import FIGURES, confusion
from capetown.reporting.pictures import jpeg
from capetown.reporting.report import markdown_and_images, page
from tests.browser import Opened
from tests.tables import INSIDE_CELL

# Words that stick out of their chart, which hides what does.
CUT_OFF = """[...document.querySelectorAll(".chart svg")].flatMap(svg => {
    const chart = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < chart.left - 1 || box.right > chart.right + 1;
    }).map(text => text.textContent);
})"""
SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = '"><img src=x onerror="window.hacked=1">.tif'
# What `evaluate` calls the pictures of tiles whose own names are like these.
TILE, HEAT = "yes-a b (2)](http:x) #1.png", 'yes-"><img src=x onerror="window.hacked=1">.png'
PIPE = "a|b *c* [d](http://e.f) `g` ~~h~~"
LARGEST = 8_000_000


def facts(folder: Path) -> Facts:
    """A small city, a small classifier, and names that would be markup if they were let."""
    for name in (TILE, HEAT):
        Image.new("RGB", (32, 32), "teal").save(folder / name)
    cells = sorted(h3.grid_disk(INSIDE_CELL, 3))
    hexagons = gpd.GeoDataFrame(
        {
            "index": cells,
            "requests": range(len(cells)),
            "directorate: (none)": 0,
            f"directorate: {SCRIPT}": range(len(cells)),
            "median_days_to_completion": [None, *([2.5] * (len(cells) - 1))],
            "suburb": [None, *([SCRIPT] * (len(cells) - 1))],
        },
        geometry=[shapely.Polygon([p[::-1] for p in h3.cell_to_boundary(c)]) for c in cells],
        crs="OGC:CRS84",
    )
    requests = sum(range(len(cells)))
    predictions = pd.DataFrame(
        {
            "path": [f"images/swimming-pool/yes/{IMAGE}", *(f"{n}.tif" for n in range(39))],
            "label": ["yes"] * 25 + ["no"] * 15,
            "probability": [n / 40 for n in range(40)][::-1],
        }
    )
    scores = dict.fromkeys(METRICS, 0.5) | {
        "balanced_accuracy": 0.9, "average_precision": 0.98, "precision": 0.96, "recall": 0.88,
        "roc_auc": 0.97,
    }  # fmt: skip
    epochs = pd.DataFrame({"epoch": [0, 1, 2], "phase": ["head", "full", "full"]})
    curve = {"false_positive_rate": [0.0, 0.0, 1.0], "true_positive_rate": [0.0, 1.0, 1.0]}
    return Facts(
        transform={
            "requests": requests + 12, "joined": requests, "missing_coordinates": 10,
            "invalid_coordinates": 1, "outside_city": 1, "failure_rate": 2 / (requests + 2),
            "missing_rate": 10 / (requests + 12),
            "reference": {"compared": requests + 12, "matched": requests + 12, "mismatched": 0},
            "quality": {"hexagons": len(cells), "hexagons_with_requests": len(cells) - 1,
                        "completed_before_creation": 3},
        },
        split={
            "tiles": 200, "rejected": 1, "duplicates": 2, "label_noise": 1,
            "unlike": 0, "unlike_first": "",
            "folds": {
                f: {"yes": 60, "no": 40, "sheets": 9, "groups": 9}
                for f in ("train", "valid", "test")
            },
        },
        evaluate={
            **scores, "threshold": 0.5, "n": 40, "positives": 25, "sheets": 9, "groups": 9,
            "intervals": {name: [value - 0.05, value + 0.02] for name, value in scores.items()},
            "at_half": scores, "baseline": dict.fromkeys(scores, 0.5),
            "calibration": {"temperature": 1.2, "ece_before": 0.1, "ece_after": 0.05},
        },
        card={
            "architecture": "tf_efficientnet_lite0", "image_size": 224, "dataset": "0123456789ab",
            "packages": {"torch": "2.13.0"},
        },
        hexagons=hexagons,
        rejects=pd.DataFrame(
            {
                "notification_number": ["001015950287", PIPE],
                "official_suburb": [SCRIPT, None],
                "latitude": ["-34.044257", "x"],
                "longitude": ["18.774378", "18.5"],
                "reason": [None, "not a number"],
                "metres_to_nearest_hexagon": [78.0, None],
            }
        ),
        history=epochs.assign(**dict.fromkeys(METRICS, 0.5)).assign(
            train_loss=[0.7, 0.5, 0.3], valid_loss=[0.7, 0.6, 0.4], learning_rate=[3e-3, 1e-3, 0],
            average_precision=[0.7, 0.8, 0.9], balanced_accuracy=[0.6, 0.7, 0.8],
            precision=[0.6, 0.7, 0.8], recall=[0.9, 0.8, 0.9], roc_auc=[0.6, 0.8, 0.9],
        ),
        predictions=predictions,
        sheets=pd.DataFrame(
            {"sheet": [SCRIPT], "tiles": [40], "false_positives": [2], "false_negatives": [3]}
        ),
        curves={
            "roc": pd.DataFrame(curve),
            "precision_recall": pd.DataFrame({"recall": [1.0, 0.5], "precision": [0.6, 1.0]}),
            "calibration": pd.DataFrame(
                {"mean_probability": [0.2, 0.8], "share_of_yes": [0.1, 0.9], "tiles": [20, 20]}
            ),
        },
        samples=pd.DataFrame(
            {"path": ["a.tif", "b.tif"], "label": ["yes", "no"], "tile": [TILE] * 2}
        ),
        mistakes=pd.DataFrame(
            {
                "path": [f"images/swimming-pool/yes/{IMAGE}", "b.tif"],
                "label": ["yes", "no"], "probability": [0.01, 0.99],
                "kind": ["false_negative", "false_positive"],
                "tile": [TILE] * 2, "saliency": [HEAT] * 2,
            }
        ),
        evaluation=folder,
        inventory=pd.DataFrame({"key": ["sr.csv.gz"], "size": [1_000_000]}),
        fingerprint="fedcba9876543210",
        settings={
            "model": {"model": "lite", "pretrained": True, "seed": 42},
            "download": {"source": "data"},
            "transform": {"error_threshold": 0.01, "missing_threshold": 0.25,
                          "reference_threshold": 0.0},
            "split": {"strategy": "sheet"},
            "train": {"warmup": 0.2,
                      "augment": {"flips": True, "brightness": 0.2, "contrast": 0.2,
                                  "saturation": 0.2, "scale": 0.0}},
            "evaluate": {"bootstrap": 1000},
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "index.html"
    path.write_text(page(facts(folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Path) -> Opened:
    return Opened(browser, report)


def numbers(page: Page) -> list[int]:
    """The confusion matrix in the order of its cells in the chart."""
    texts = page.locator("#confusion svg .mark-text text").all_text_contents()
    return sorted(int(text) for text in texts if text.isdigit())


def test_it_opens_from_disk_without_network_or_error(opened: Opened, report: Path) -> None:
    assert opened.requests == []
    assert opened.errors == []
    assert report.stat().st_size < LARGEST


def test_every_figure_is_drawn(opened: Opened) -> None:
    charts = opened.page.locator(".chart")
    ids = {charts.nth(n).get_attribute("id") for n in range(charts.count())}
    assert ids == set(FIGURES)
    for name in FIGURES:
        marks = opened.page.locator(f"#{name} svg [class^='mark-'] :is(path, text, rect)")
        assert marks.count() > 0, name


def test_the_map_has_every_hexagon(opened: Opened) -> None:
    assert opened.page.locator("#map svg .mark-shape path").count() == 37


def test_the_map_answers_a_hover(opened: Opened) -> None:
    hexagons = opened.page.locator("#map svg .mark-shape path")
    hexagons.nth(36).scroll_into_view_if_needed()
    hexagons.nth(36).hover()
    tooltip = opened.page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    text = tooltip.inner_text()
    assert sorted(h3.grid_disk(INSIDE_CELL, 3))[36] in text
    assert SCRIPT in text
    assert "36" in text


def test_the_menu_chooses_a_directorate(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report).page
    menu = tab.locator("#map select")
    assert menu.locator("option").all_text_contents() == ["all directorates", SCRIPT]
    menu.select_option(SCRIPT)
    tab.locator("#map svg .mark-shape path").nth(20).hover()
    tab.locator("#vg-tooltip-element").wait_for(state="visible")
    assert "20" in tab.locator("#vg-tooltip-element").inner_text()


def test_the_slider_moves_the_confusion_matrix(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report).page
    slider = tab.locator("#confusion input[type=range]")
    assert slider.input_value() == "0.5"
    # Probabilities fall from 39/40 in steps of 1/40, the first 25 tiles are "yes".
    assert numbers(tab) == [0, 5, 15, 20]
    slider.fill("0")
    tab.wait_for_function(
        "[...document.querySelectorAll('#confusion svg .mark-text text')]"
        ".some(t => t.textContent === '25')"
    )
    assert numbers(tab) == [0, 0, 15, 25]
    shown = tab.locator("#confusion svg").text_content() or ""
    assert "right, of tiles called (precision): 62.5%" in shown


def test_the_contents_lead_to_the_sections(opened: Opened) -> None:
    links = opened.page.locator("nav a")
    titles = links.all_text_contents()
    assert titles[:3] == [
        "In five sentences",
        "Requests on hexagons",
        "Pools from the air: the data",
    ]
    for n in range(links.count()):
        target = links.nth(n).get_attribute("href") or ""
        assert opened.page.locator(f"h2{target}").text_content() == titles[n]


@pytest.mark.parametrize("width", [380, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 800}
    tab = Opened(browser, report, viewport=size, color_scheme=scheme)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    charts = tab.page.locator(".chart svg")
    for n in range(charts.count()):
        box = charts.nth(n).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width, n
    assert tab.page.evaluate(CUT_OFF) == []
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 25, 28)"}[scheme]
    assert tab.errors == []


def test_charts_have_the_pages_ink_in_the_dark_and_on_paper(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report, color_scheme="dark").page
    ink = """() => [...new Set([
        getComputedStyle(document.body).color,
        getComputedStyle(document.querySelector("#roc .role-axis-title text")).fill,
        getComputedStyle(document.querySelector("#roc .role-axis-label text")).fill,
        getComputedStyle(document.querySelector("#losses .role-legend-label text")).fill,
        getComputedStyle(document.querySelector("#confusion .mark-text.role-mark text")).fill,
        getComputedStyle(document.querySelector("#probabilities .mark-rule.role-mark line")).stroke,
    ])]"""
    assert tab.evaluate(ink) == ["rgb(227, 234, 237)"]
    tab.emulate_media(media="print")
    assert tab.evaluate(ink) == ["rgb(29, 42, 48)"]
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_on_paper_nothing_is_cut_off(browser: Browser, report: Path) -> None:
    """A sheet of A4 is narrower, without its margins, than the charts are on a large screen."""
    tab = Opened(browser, report, viewport={"width": 1200, "height": 800}).page
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 1010})
    right = """() => Math.max(...[...document.querySelectorAll("svg, table")].map(
        element => element.getBoundingClientRect().right))"""
    assert tab.evaluate(right) <= 680


def test_names_are_text_and_never_markup(opened: Opened) -> None:
    text = opened.page.locator("main").inner_text()
    for name in (SCRIPT, IMAGE, PIPE):
        assert name in text
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("img[src=x]").count() == 0


# --- the text ----------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Facts:
    return facts(tmp_path)


def markdown(of: Facts) -> str:
    return markdown_and_images(of)[0]


def rendered(text: str) -> str:
    """Markdown as a Git host shows it, markup within it and all."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


EMPTY = pd.DataFrame()
NO_POOLS: dict[str, Any] = {
    "split": {}, "evaluate": {}, "card": {}, "history": EMPTY, "predictions": EMPTY,
    "sheets": EMPTY, "curves": {}, "samples": EMPTY, "mistakes": EMPTY,
}  # fmt: skip
NO_REQUESTS: dict[str, Any] = {"transform": {}, "hexagons": None, "rejects": EMPTY}


def test_without_tiles_it_tells_of_the_requests_and_how_to_make_the_rest(small: Facts) -> None:
    text, images = markdown_and_images(replace(small, **NO_POOLS))
    assert set(images) == {"map.png"}
    assert "\n\n**The tiles are not in this run**, so it says nothing about pools." in text
    assert (
        "With `images/swimming-pool/**` among `download.include` in params.yaml, `dvc repro` makes"
        in text
    )
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == [
        "In five sentences", "Requests on hexagons", "What to do next", "How it was made",
    ]  # fmt: skip
    assert "classifier" not in text


def test_without_tables_it_tells_of_the_pools_and_how_to_make_the_rest(small: Facts) -> None:
    text, images = markdown_and_images(replace(small, **NO_REQUESTS))
    assert "map.png" not in images
    assert "**The tables are not in this run**, so it says nothing about requests." in text
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings[1:3] == ["Pools from the air: the data", "How it was trained"]
    assert "hexagons.parquet" not in text
    assert "The data are 200 aerial tiles" in text


def test_markdown_has_the_pictures_it_shows_and_no_others(small: Facts) -> None:
    text, images = markdown_and_images(small)
    sources = re.findall(r'<img src="([^"]*)"', rendered(text))
    assert {unquote(source).removeprefix("images/") for source in sources} == set(images)
    assert {f"{Path(name).stem}.jpg" for name in (TILE, HEAT)} < set(images)
    assert {f"{name}.png" for name in FIGURES} < set(images)


def test_a_large_tile_becomes_a_small_picture() -> None:
    with Image.open(io.BytesIO(jpeg(Image.new("RGBA", (4096, 1024))))) as image:
        assert (image.format, image.size) == ("JPEG", (512, 128))


def test_markdown_escapes_names(small: Facts) -> None:
    html = rendered(markdown(small))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in html
    assert "<em>c</em>" not in html
    assert "http://e.f" in html
    assert 'href="http://e.f' not in html


def test_the_five_sentences_have_the_numbers(small: Facts) -> None:
    text = markdown(small).split("## Requests on hexagons")[0]
    for words in (
        "The data are 678 requests, 1.47 % of them without coordinates, and 200 aerial tiles",
        "Of the 668 requests with coordinates all but 2 lie in one of the City's 37 hexagons",
        "every one of the 678 answers equals the City's own",
        "finds 88 % of the tiles with a pool, and 96 % of the tiles that it calls do have one",
        "a balanced accuracy of **90.0 %** (95 % interval 85.0 to 92.0 %)",
        "is clearly better than guessing",
        "**This run is on the miniature that comes with the repository**",
    ):
        assert words in text


def changed(small: Facts, **sections: dict[str, Any]) -> Facts:
    """The facts with other values in some of the settings, and in `evaluate` or `transform`."""
    settings = {name: {**small.settings[name], **sections.get(name, {})} for name in small.settings}
    return replace(small, settings=settings)


def test_a_random_split_does_not_claim_sheets_for_itself(small: Facts) -> None:
    text = markdown(changed(small, split={"strategy": "random"}))
    for words in (
        "and 200 aerial tiles.",
        "On 40 tiles that had no part in its making, though their neighbours may have, ",
        "Tiles were divided at random",
        "Expect on new tiles of the same neighbourhoods what the intervals say, and less elsewhere",
    ):
        assert words in text
    together = markdown(small)
    for words in (
        "and 200 aerial tiles from 27 map sheets.",
        "On 40 tiles from 9 map sheets that had no part in its making, ",
        "Expect on new tiles of the same kind what the intervals say, and less on photographs",
    ):
        assert words in together
        assert words not in text


def test_thresholds_are_said_as_they_are_set(small: Facts) -> None:
    """668 requests with coordinates; 666 in 36 hexagons."""
    text = markdown(small)
    assert (
        "more than 1 % of the requests with coordinates fail: more than 6 of these 668, where a "
        "hexagon with any request has 18 on average. Here it is 0.2994 %; in the City's" in text
    )
    assert "more than 25 % come without coordinates; here it is 1.47 %" in text
    assert "More than 0 % of disagreement would stop the stage" in text
    limits = {"error_threshold": 0.1, "missing_threshold": 0.225, "reference_threshold": 1e-5}
    text = markdown(changed(small, transform=limits))
    assert "more than 10 % of the requests with coordinates fail: more than 66 of these" in text
    assert "more than 22.5 % come without" in text
    assert "More than 0.001 % of disagreement" in text


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ({}, "mirrored and turned by quarters and changed in brightness, contrast and saturation "
             "at random each time."),
        ({"flips": False, "brightness": 0.0, "saturation": 0.0, "scale": 0.1},
         "zoomed and changed in contrast at random each time."),
        ({"flips": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
         "shown as they are."),
    ],
)  # fmt: skip
def test_the_augmentation_is_what_was_set(small: Facts, augment: dict[str, Any], said: str) -> None:
    set_to = {**small.settings["train"]["augment"], **augment}
    assert f" Tiles were {said} The weights of epoch 3 " in markdown(
        changed(small, train={"augment": set_to})
    )


def test_random_weights_had_nothing_to_spoil_and_no_warmup_nothing_to_climb(small: Facts) -> None:
    text = markdown(changed(small, model={"pretrained": False}, train={"warmup": 0.0}))
    assert "which starts from random weights, at 224 × 224 pixels. First its last layer" in text
    for words in ("what the rest has learned", "It climbs at the start"):
        assert words in markdown(small)
        assert words not in text


@pytest.mark.parametrize(("sheets", "enough"), [(4, False), (5, True)])
def test_few_sheets_allow_no_interval(small: Facts, sheets: int, enough: bool) -> None:
    text = markdown(replace(small, evaluate={**small.evaluate, "groups": sheets}))
    assert ("is clearly better than guessing" in text) == enough
    assert ("85.0 to 92.0 %" in text) == enough
    for words in (
        "**90.0 %** (from too few map sheets for an interval)",
        "whether the classifier is better than guessing cannot be said from so few map sheets.",
        f"They rest on 40 tiles of {sheets} map sheets, too few for an interval.",
        "Judge it on tiles of more map sheets before expecting anything of it.",
    ):
        assert (words not in text) == enough


def test_mistakes_are_not_made_up(small: Facts) -> None:
    text = markdown(replace(small, mistakes=small.mistakes.head(0)))
    assert "Look at the mistakes above" not in text
    # None is shown, as `evaluate.mistakes` may ask for; five pools are missed all the same.
    assert "made no mistake" not in text


@pytest.mark.parametrize(
    ("threshold", "start"),
    [(0.62499999, 0.62), (0.6250001, 0.63), (0.5, 0.5), (0.67558, 0.6756)],
)
def test_the_slider_starts_with_the_models_own_calls(
    small: Facts, threshold: float, start: float
) -> None:
    """0.625, 0.6755 and 0.6757 are the tiles' probabilities next to the thresholds."""
    rows = small.predictions.replace({"probability": {0.7: 0.6757, 0.675: 0.6755}})
    found = replace(small, predictions=rows, evaluate={**small.evaluate, "threshold": threshold})
    params = {param["name"]: param for param in confusion(found).to_dict()["params"]}
    assert params["threshold"]["value"] == start


def test_the_embedded_bucket_is_known_by_any_of_its_names(small: Facts) -> None:
    for source, is_sample in {"data": True, "./data/": True, "data2": False}.items():
        assert changed(small, download={"source": source}).is_sample == is_sample


def test_other_numbers_give_other_sentences(small: Facts) -> None:
    none_failed = {**small.transform, "invalid_coordinates": 0, "outside_city": 0}
    guess = json.loads(json.dumps(dict(small.evaluate)))
    guess["intervals"]["balanced_accuracy"] = [0.45, 0.6]
    guess["threshold"] = 0.36
    other = replace(
        changed(small, download={"source": "s3://cct"}),
        transform={**none_failed, "reference": None}, evaluate=guess,
        mistakes=small.mistakes.head(0), rejects=small.rejects.head(0),
    )  # fmt: skip
    text = markdown(other)
    for words in (
        "Of the 668 requests with coordinates all lie in one of the City's",
        "the City's own answers were not at hand to compare with",
        "the classifier is not clearly better than guessing",
        "No request with coordinates failed to join.",
        "On the test fold it made no mistake.",
    ):
        assert words in text
    assert "miniature" not in text
