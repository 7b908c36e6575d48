"""The report's text for any numbers: what it says, and what it must not say."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from capetown.report.facts import Facts, short_threshold
from capetown.report.pictures import jpeg
from capetown.report.render import CHART_NAMES, draw_chart, markdown_and_images
from capetown.report.request_charts import REQUEST_CHARTS
from tests.report.city import HEAT, TILE, facts, tables


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
    "pools_by_hexagon": None,
    "split": {}, "evaluate": {}, "model": {}, "history": EMPTY, "predictions": EMPTY,
    "sheets": EMPTY, "curves": {}, "samples": EMPTY, "mistakes": EMPTY,
}  # fmt: skip
NO_REQUESTS: dict[str, Any] = {
    "transform": {},
    "hexagons": None,
    "tables": {},
    "rejects": EMPTY,
    "pools_by_hexagon": None,
}


def test_without_tiles_it_tells_of_the_requests_and_how_to_make_the_rest(small: Facts) -> None:
    text, images = markdown_and_images(replace(small, **NO_POOLS))
    assert set(images) == {"map.png", *(f"{name}.png" for name in REQUEST_CHARTS)}
    assert "\n\n**No pool finder is in this run**, so the report says nothing about pools. " in text
    assert "`dvc repro` makes it where the tiles are in `raw/`; to fetch them, put " in text
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == [
        "In one minute", "What residents ask for", "Where the requests come from",
        "How fast they are dealt with", "What to do next",
        "How the requests were put on the map", "How this report was made",
    ]  # fmt: skip
    assert "balanced accuracy" not in text


def test_without_tables_it_tells_of_the_pools_and_how_to_make_the_rest(small: Facts) -> None:
    text, images = markdown_and_images(replace(small, **NO_REQUESTS))
    assert "map.png" not in images
    assert "**The requests are not in this run**, so the report says nothing about them. " in text
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == [
        "In one minute", "Pools from the air: how far to trust it", "Where it fails",
        "What to do next", "How the pool finder was trained", "How this report was made",
    ]  # fmt: skip
    assert "hexagons.parquet" not in text
    assert "200 tiles could be used, from 27 map sheets; 1 could not" in text


def test_markdown_has_the_pictures_it_shows_and_no_others(small: Facts) -> None:
    text, images = markdown_and_images(small)
    sources = re.findall(r'<img src="([^"]*)"', rendered(text))
    assert {unquote(source).removeprefix("images/") for source in sources} == set(images)
    assert {f"{Path(name).stem}.jpg" for name in (TILE, HEAT)} < set(images)
    assert {f"{name}.png" for name in CHART_NAMES} < set(images)


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


def test_one_minute_has_the_numbers(small: Facts) -> None:
    """Of seven requests a day one is never done, the others after 2, 4, ... 12 days: four in 8."""
    text = markdown(small).split("## What residents ask for")[0]
    for words in (
        "678 requests from 1 January 2020 to 9 April 2020. Most often Burst Pipe (57 %) and ",
        "Of all requests, half are dealt with within 8 days; more than one in ten have no ",
        "1.47 % came without coordinates and are on no map.",
        "Of the 668 requests with coordinates all but 2 lie in one of the City's 37 hexagons",
        "every one of the 678 answers equals the City's own",
        "Of 100 tiles with a pool it finds 88, and of 100 tiles that it calls 96 do have one.",
        "a balanced accuracy of **90.0 %** (95 % interval 85.0 to 92.0 %)",
        "It is clearly better than guessing",
        "**This run is on the miniature that comes with the repository**",
    ):
        assert words in text


def changed(small: Facts, **sections: dict[str, Any]) -> Facts:
    """The facts with other values in some of the settings, and in `evaluate` or `transform`."""
    settings = {name: {**small.settings[name], **sections.get(name, {})} for name in small.settings}
    return replace(small, settings=settings)


@pytest.mark.parametrize(
    ("apart", "said"),
    [(0, ""), (1, "One of them was created a month"), (2, "2 of them were created a month")],
)
def test_what_lies_apart_in_time_is_told(small: Facts, apart: int, said: str) -> None:
    assert small.transform["quality"]["created_apart"] == 0
    small.transform["quality"]["created_apart"] = apart
    text = markdown(small)
    assert said in text
    assert ("apart from nearly all others" in text) == bool(apart)


def test_many_years_can_be_drawn(small: Facts) -> None:
    """Altair stops at 5,000 rows by itself, which two lines of seven years have."""
    long = replace(small, tables=tables(days=2600))
    drawn = {name: draw_chart(name, long).to_dict() for name in REQUEST_CHARTS}
    assert max(len(rows) for rows in drawn["flow"]["datasets"].values()) == 2 * 2600


def test_halves_are_rounded_up_as_the_page_does(small: Facts) -> None:
    scores = {**small.evaluate, "recall": 0.825, "precision": 0.705, "threshold": 0.485}
    text = markdown(replace(small, evaluate=scores))
    assert "Of 100 tiles with a pool it finds 83, and of 100 tiles that it calls 71 do" in text
    assert "calls “pool”, 71 have one; of 100 tiles with a pool it finds 83.**" in text
    assert "At a threshold of **49 %** it calls" in text


def test_a_random_split_does_not_claim_sheets_for_itself(small: Facts) -> None:
    text = markdown(changed(small, split={"strategy": "random"}))
    for words in (
        "once, on 40 tiles that had no part in its making, though their neighbours may have: ",
        "Tiles were divided at random",
        "Expect on new tiles of the same neighbourhoods what the intervals say, and less elsewhere",
    ):
        assert words in text
    together = markdown(small)
    for words in (
        "200 tiles could be used, from 27 map sheets",
        "once, on 40 tiles from 9 map sheets that had no part in its making: ",
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
        "Whether it is better than guessing cannot be said from so few map sheets.",
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
    assert short_threshold(found) == start


def test_the_embedded_bucket_is_known_by_any_of_its_names(small: Facts) -> None:
    for source, is_sample in {"data": True, "./data/": True, "data2": False}.items():
        assert changed(small, download={"source": source}).is_sample == is_sample


def test_other_numbers_give_other_sentences(small: Facts) -> None:
    none_failed = {**small.transform, "invalid_coordinates": 0, "outside_city": 0}
    guess = json.loads(json.dumps(dict(small.evaluate)))
    guess["intervals"] |= {"balanced_accuracy": [0.45, 0.6], "roc_auc": [0.46, 0.7]}
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
        "It is not clearly better than guessing, and should not be used.",
        "No request with coordinates failed to join.",
        "On the test fold it made no mistake.",
    ):
        assert words in text
    assert "miniature" not in text


def test_an_order_may_be_sure_where_the_calls_are_not(small: Facts) -> None:
    evaluate = json.loads(json.dumps(dict(small.evaluate)))
    evaluate["intervals"] |= {"balanced_accuracy": [0.45, 0.9], "roc_auc": [0.7, 0.9]}
    text = markdown(replace(small, evaluate=evaluate))
    assert "It puts tiles in order clearly better than guessing" in text
    assert "should not be used" not in text
