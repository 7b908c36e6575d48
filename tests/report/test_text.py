"""The report's text: one golden test of its wording, and what it says about other numbers."""

import io
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from capetown.params import GroupsSource
from capetown.report import formatting
from capetown.report.facts import Facts, join_statistics, pool_statistics, short_threshold
from capetown.report.formatting import group_names
from capetown.report.pictures import jpeg
from capetown.report.render import CHART_NAMES, draw_chart, markdown_and_images
from capetown.report.request_charts import REQUEST_CHARTS
from tests.report.city import HEAT, TILE, facts, tables

EMPTY = pd.DataFrame()
NO_POOLS: dict[str, Any] = {
    "split": {}, "evaluate": {}, "model": {}, "history": EMPTY, "predictions": EMPTY,
    "sheets": EMPTY, "curves": {}, "samples": EMPTY, "mistakes": EMPTY, "pools_by_hexagon": None,
}  # fmt: skip
NO_REQUESTS: dict[str, Any] = {
    "transform": {}, "hexagons": None, "tables": {}, "rejects": EMPTY, "pools_by_hexagon": None,
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Facts:
    return facts(tmp_path)


def markdown(of: Facts) -> str:
    return markdown_and_images(of)[0]


def changed(small: Facts, **sections: dict[str, Any]) -> Facts:
    """The facts with other values in some sections of the settings."""
    settings = {name: {**small.settings[name], **sections.get(name, {})} for name in small.settings}
    return replace(small, settings=settings)


def evaluated(small: Facts, **values: Any) -> Facts:
    """The facts with other values in `evaluate`; intervals are merged."""
    found = deepcopy(dict(small.evaluate))
    found["intervals"] |= values.pop("intervals", {})
    return replace(small, evaluate=found | values)


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.*)", text, re.MULTILINE)


def test_one_minute_has_the_numbers(small: Facts) -> None:
    """The golden test. One of seven requests a day stays open, four are closed within 8 days."""
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


def test_without_tiles_or_tables_the_report_covers_the_rest(small: Facts) -> None:
    text, images = markdown_and_images(replace(small, **NO_POOLS))
    assert set(images) == {"map.png", *(f"{name}.png" for name in REQUEST_CHARTS)}
    assert headings(text) == [
        "In one minute", "What residents ask for", "Where the requests come from",
        "How fast they are dealt with", "What to do next",
        "How the requests were put on the map", "How this report was made",
    ]  # fmt: skip
    assert "`images/swimming-pool/**`" in text  # what to fetch
    assert "balanced accuracy" not in text
    text, images = markdown_and_images(replace(small, **NO_REQUESTS))
    assert not {"map.png", "pools.png"} & set(images)
    assert headings(text) == [
        "In one minute", "Pools from the air: how far to trust it", "Where it fails",
        "What to do next", "How the pool finder was trained", "How this report was made",
    ]  # fmt: skip
    assert "download.requests" in text
    assert "hexagons.parquet" not in text


def test_the_text_links_to_its_images_and_escapes_names(small: Facts) -> None:
    samples = small.samples.assign(path="a\r\r> ](http:e) ![b.tif")
    text, images = markdown_and_images(replace(small, samples=samples))
    # As a Git host shows it, with the markup in it.
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    sources = re.findall(r'<img src="([^"]*)"', html)
    assert {unquote(source).removeprefix("images/") for source in sources} == set(images)
    assert {f"{Path(name).stem}.jpg" for name in (TILE, HEAT)} < set(images)
    assert {f"{name}.png" for name in CHART_NAMES} < set(images)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in html
    assert "<em>c</em>" not in html
    assert "<i>" not in html
    assert "http://e.f" in html
    assert 'href="http://e.f' not in html


def test_a_large_tile_becomes_a_small_picture() -> None:
    with Image.open(io.BytesIO(jpeg(Image.new("RGBA", (4096, 1024))))) as image:
        assert (image.format, image.size) == ("JPEG", (512, 128))


def test_charts_can_cover_many_years(small: Facts) -> None:
    """Altair's own limit is 5,000 rows, less than two lines of seven years."""
    long = replace(small, tables=tables(days=2600))
    drawn = {name: draw_chart(name, long).to_dict() for name in REQUEST_CHARTS}
    assert max(len(rows) for rows in drawn["flow"]["datasets"].values()) == 2 * 2600


def test_the_join_has_its_statistics(small: Facts) -> None:
    """668 requests with coordinates, 666 of them in 36 hexagons."""
    found = join_statistics(small)
    assert (found["located"], found["failed"], found["allowed_failures"]) == (668, 2, 6)
    assert found["requests_per_hexagon"] == 18
    assert found["busiest_hexagons"][0]["requests"] == 36
    limits = {"error_threshold": 0.1, "missing_threshold": 0.225, "reference_threshold": 1e-5}
    other = changed(small, transform=limits)
    assert join_statistics(other)["allowed_failures"] == 66
    for limit in ("more than 10 % of", "more than 22.5 % come", "More than 0.001 % of"):
        assert limit in markdown(other)


def test_the_model_has_its_statistics(small: Facts) -> None:
    """The first 25 tiles have a pool; the first 20 are at or above the threshold."""
    found = pool_statistics(small)
    assert list(found["counts"].values()) == [20, 5, 0, 15]
    assert (found["wrong"], found["wrong_in_100"]) == (5, 12)
    assert (found["group_name"], found["group_count"]) == ("map sheets", 27)
    assert found["best_epoch"] == 3
    assert found["epochs_by_phase"] == {"head": 1, "full": 2}
    assert [row["wrong"] for row in found["hardest_sheets"]] == [5]
    assert pool_statistics(changed(small, split={"strategy": "block"}))["keeps_groups"]


@pytest.mark.parametrize(
    ("accuracy", "auc", "groups", "is_better", "ranks_better", "advice"),
    [([0.45, 0.6], [0.46, 0.7], 5, False, False, "should not be used"),
     ([0.45, 0.9], [0.7, 0.9], 5, False, True, "can choose which ones a person looks at"),
     ([0.55, 0.9], [0.7, 0.9], 5, True, True, "is clearly better than guessing"),
     ([0.55, 0.9], [0.7, 0.9], 4, True, True, "too few for an interval")],
)  # fmt: skip
def test_advice_follows_the_intervals(
    small: Facts, accuracy: list[float], auc: list[float], groups: int, is_better: bool,
    ranks_better: bool, advice: str,
) -> None:  # fmt: skip
    intervals = {"balanced_accuracy": accuracy, "roc_auc": auc}
    other = evaluated(small, groups=groups, intervals=intervals)
    found, text = pool_statistics(other), markdown(other)
    assert found["is_better_than_guessing"] == is_better
    assert found["ranks_better_than_guessing"] == ranks_better
    assert advice in text
    assert found["has_intervals"] == (groups == 5)
    assert (f"{100 * accuracy[0]:.1f} to {100 * accuracy[1]:.1f} %" in text) == (groups == 5)
    assert ("is clearly better than guessing" in text) == (is_better and groups == 5)


def test_the_augmentation_follows_the_settings(small: Facts) -> None:
    none = {"flips": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    for augment, said in (
        ({}, "mirrored and turned by quarters and changed in brightness, contrast and saturation "
             "at random each time"),
        (none | {"contrast": 0.2, "scale": 0.1}, "zoomed and changed in contrast at random each "
         "time"),
        (none, "shown as they are"),
    ):  # fmt: skip
        given = {**small.settings["train"]["augment"], **augment}
        found = pool_statistics(changed(small, train={"augment": given}))
        assert found["augmentation"] == f"Tiles were {said}."


def test_the_slider_starts_with_the_models_own_calls(small: Facts) -> None:
    """0.625, 0.6755 and 0.6757 are the tiles' probabilities next to the thresholds."""
    rows = small.predictions.replace({"probability": {0.7: 0.6757, 0.675: 0.6755}})
    starts = {0.62499999: 0.62, 0.6250001: 0.63, 0.5: 0.5, 0.67558: 0.6756}
    for threshold, start in starts.items():
        found = evaluated(replace(small, predictions=rows), threshold=threshold)
        assert short_threshold(found) == start


def test_halves_are_rounded_up_as_on_the_page(small: Facts) -> None:
    text = markdown(evaluated(small, recall=0.825, precision=0.705, threshold=0.485))
    assert "Of 100 tiles with a pool it finds 83, and of 100 tiles that it calls 71 do" in text
    assert "calls “pool”, 71 have one; of 100 tiles with a pool it finds 83.**" in text
    assert "At a threshold of **49 %** it calls" in text


def test_implausible_times_are_reported(small: Facts) -> None:
    assert "apart from nearly all others" not in markdown(small)
    for apart, said in ((1, "One of them was"), (2, "2 of them")):
        small.transform["quality"]["created_apart"] = apart
        assert said in markdown(small)
        assert "apart from nearly all others" in markdown(small)


def test_the_text_follows_the_settings(small: Facts) -> None:
    same = markdown(small)
    random = markdown(changed(small, split={"strategy": "random"}))
    plain = markdown(changed(small, model={"pretrained": False}, train={"warmup": 0.0}))
    for words, absent, present in (
        ("though their neighbours may have", same, random),
        ("divided at random", same, random),
        ("same neighbourhoods", same, random),
        ("from 27 map sheets", random, same),
        ("tiles from 9 map sheets", random, same),
        ("tiles of the same kind", random, same),
        ("starts from random weights", same, plain),
        ("what the rest has learned", plain, same),
        ("It climbs at the start", plain, same),
    ):
        assert words in present
        assert words not in absent


@pytest.mark.parametrize("source", get_args(GroupsSource))
def test_claims_follow_the_source_of_groups(small: Facts, source: GroupsSource) -> None:
    """No claim about unseen areas is made without groups, and sheets are only in names."""
    blocks = changed(small, split={"strategy": "block"})
    text = markdown(replace(blocks, split={**small.split, "groups_source": source}))
    name = group_names(source, by_sheet=False)[1]
    claims = (f"9 {name} that had no part in its making", f"resamples of whole {name}",
              "stay in one fold", "tiles of the same kind")  # fmt: skip
    warnings = ("The split is random", "may be in several folds", "single tiles", "Group the tiles")
    for words in claims:
        assert (words in text) == (source != "none")
    for words in warnings:
        assert (words in text) == (source == "none")
    assert ("of each map sheet" in text) == (source == "names")


def test_a_run_without_faults_says_so(small: Facts) -> None:
    none_failed = {**small.transform, "invalid_coordinates": 0, "outside_city": 0}
    other = replace(
        evaluated(changed(small, download={"source": "s3://cct"}), threshold=0.36),
        transform={**none_failed, "reference": None}, mistakes=small.mistakes.head(0),
        rejects=small.rejects.head(0),
    )  # fmt: skip
    text = markdown(other)
    for words in (
        "Of the 668 requests with coordinates all lie in one of the City's",
        "the City's own answers were not at hand to compare with",
        "No request with coordinates failed to join.",
        "On the test fold it made no mistake.",
    ):
        assert words in text
    assert "miniature" not in text
    # Five tiles are wrong here, though `evaluate.mistakes` asks for none of them.
    hidden = markdown(replace(small, mistakes=small.mistakes.head(0)))
    assert "Look at the mistakes above" not in hidden
    assert "made no mistake" not in hidden


def test_the_sample_is_recognised_by_its_source(small: Facts) -> None:
    for source, is_sample in {"data": True, "./data/": True, "data2": False}.items():
        assert changed(small, download={"source": source}).is_sample == is_sample


def test_names_in_capitals_are_shown_in_title_case_except_acronyms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formatting, "ACRONYMS", frozenset({"LADWP", "OF"}))
    shown = {"LADWP": "LADWP", "WATER OF THE LADWP": "Water OF the LADWP", "(delft)": "(delft)",
             "(DELFT) OR BOSTON": "(Delft) or Boston", "McKay": "McKay"}  # fmt: skip
    assert {name: formatting.as_name(name) for name in shown} == shown


def test_the_area_of_a_hexagon_follows_the_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    areas = {6: "40 km²", 7: "5 km²", 8: "0.7 km²", 9: "0.1 km²", 10: "15,000 m²", 12: "310 m²"}
    for resolution, area in areas.items():
        monkeypatch.setattr(formatting, "RESOLUTION", resolution)
        assert formatting.hexagon_area() == area
