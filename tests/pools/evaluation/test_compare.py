"""Comparison of experiments: differences by hand, verdicts, changed tiles, and the page."""

import base64
import re
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from dvc.repo import Repo
from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import Browser
from sklearn.metrics import average_precision_score

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED
from capetown.params import GroupsSource
from capetown.pools.evaluation.compare import Comparison, Experiment, changed_sides, compare
from capetown.pools.evaluation.revisions import read_experiment
from capetown.pools.metrics import METRICS
from capetown.report.comparison_page import as_page, as_text
from tests import ROOT
from tests.browser import Opened
from tests.pools.prediction import refused

# Ten sheets of four tiles, two of each class.
PATHS = [f"images/{label}/S{sheet}_{n}_0.tif" for sheet in range(10) for n, label in
         enumerate(["yes", "yes", "no", "no"])]  # fmt: skip
LABELS = ["yes" if "/yes/" in path else "no" for path in PATHS]
# Groups are whole sheets.
SHEETS: dict[str, object] = {"split.strategy": "sheet"}
TRUTH = np.array([label == "yes" for label in LABELS])


def experiment(name: str, probabilities: np.ndarray, threshold: float = 0.5) -> Experiment:
    table = pd.DataFrame({"path": PATHS, "label": LABELS, "probability": probabilities})
    return Experiment(name, table, threshold, SHEETS | {"model": name, "seed": 1})


def compared(*experiments: Experiment, resamples: int = 200) -> Comparison:
    return compare(experiments, resamples=resamples, seed=1)


def a_and_b(
    a: np.ndarray, b: np.ndarray, thresholds: tuple[float, float] = (0.5, 0.5), **options: int
) -> Comparison:
    pair = experiment("a", a, thresholds[0]), experiment("b", b, thresholds[1])
    return compared(*pair, **options)


def by_metric(comparison: Comparison, column: str) -> pd.Series:
    return comparison.differences.set_index("metric")[column]


def noisy(seed: int, noise: float) -> np.ndarray:
    drawn = TRUTH + np.random.default_rng(seed).normal(0, noise, len(TRUTH))
    return np.clip(drawn * 0.5 + 0.25, 0, 1)


GOOD = np.where(TRUTH, 0.9, 0.1)


def test_a_clear_difference_is_better_or_worse_and_none_is_noise() -> None:
    found = a_and_b(1 - GOOD, GOOD)
    expected = dict.fromkeys(METRICS, 1.0)
    expected["average_precision"] = 1 - average_precision_score(TRUTH, 1 - GOOD)
    assert by_metric(found, "difference").to_dict() == pytest.approx(expected)
    assert set(found.differences["verdict"]) == {"better"}
    assert set(a_and_b(GOOD, 1 - GOOD).differences["verdict"]) == {"worse"}
    same = a_and_b(noisy(1, 1), noisy(1, 1))
    assert same.differences["difference"].tolist() == [0.0] * len(METRICS)
    assert set(same.differences["verdict"]) == {"within noise"}
    assert changed_sides(same, "a", "b").empty


def test_one_changed_tile_is_noise_and_is_named() -> None:
    other = GOOD.copy()
    other[5] = 0.2
    found = a_and_b(GOOD, other, resamples=500)
    recall = found.differences.set_index("metric").loc["recall"]
    assert recall["difference"] == pytest.approx(-0.05)
    assert recall["low"] < 0 == recall["high"]
    assert recall["verdict"] == "within noise"
    assert changed_sides(found, "a", "b").to_dict("records") == [
        {"path": PATHS[5], "label": "yes", "before": 0.9, "after": 0.2, "now": "wrong"}
    ]


def test_whole_sheets_are_resampled() -> None:
    """All tiles of one of ten sheets turn wrong; a third of the resamples lack that sheet."""
    other = np.where([path.split("/")[-1].startswith("S3_") for path in PATHS], 1 - GOOD, GOOD)
    recall = a_and_b(GOOD, other, resamples=4000).differences.set_index("metric").loc["recall"]
    # In 97.5 % of the resamples, at most 3 of 10 draws are that sheet.
    assert (recall["low"], recall["high"]) == (pytest.approx(-0.3), 0.0)


def test_only_common_tiles_with_one_label_are_compared() -> None:
    relabelled = experiment("b", GOOD).predictions
    relabelled.loc[0, "label"] = "no"
    other = Experiment("b", relabelled.drop(index=7), 0.5, SHEETS)
    found = compared(experiment("a", GOOD), other, resamples=20)
    assert (len(found.tiles), found.left_out) == (38, 2)


def test_incomparable_experiments_are_refused() -> None:
    """One, twice the same, without a common tile, or with one class only."""
    one, other = experiment("a", GOOD), experiment("b", GOOD)
    moved = other.predictions.assign(path=[f"other/{path}" for path in PATHS])
    pools = [
        Experiment(e.name, e.predictions.query("label == 'yes'"), 0.5, SHEETS) for e in (one, other)
    ]
    cases: list[tuple[list[Experiment], str, str]] = [
        ([one], "a", "two or more"),
        ([other, other], "b, b", "once"),
        ([one, Experiment("b", moved, 0.5, SHEETS)], "a, b", "same data"),
        (pools, "a, b", "same data"),
    ]
    for experiments, where, fix in cases:
        with pytest.raises(CapetownError) as caught:
            compared(*experiments, resamples=20)
        assert (caught.value.where, fix in caught.value.fix) == (where, True)


@pytest.mark.parametrize("sheets", [1, 4, 5, 7, 8])
def test_few_sheets_have_no_power(sheets: int) -> None:
    """Two of seven sheets' 128 permutations show the largest difference: times five, over 5 %."""
    found = compared(*on_sheets(sheets))
    assert found.groups == sheets
    assert found.differences["low"].notna().all() == (sheets >= 5)
    verdict = "better" if sheets == 8 else "cannot tell"
    assert set(found.differences["verdict"]) == {verdict}
    said = f"Here it cannot be told: neighbouring tiles are alike, and {sheets} map sheets are"
    assert (said in as_text(found, resamples=200)) == (sheets < 8)
    page = as_page(found, resamples=200, tiles=Path("nowhere"), rule=AS_STORED)
    assert "NaN" not in page.split('<script type="application/json"')[1].split("</script>")[0]


def test_groups_are_blocks_unless_an_experiment_splits_by_sheet() -> None:
    blocks = [Experiment(e.name, e.predictions, e.threshold, {}) for e in on_sheets(2)]
    found = compared(*blocks)
    assert (found.groups, found.by_sheet) == (8, False)
    assert "8 test tiles of 8 blocks of map sheets" in as_text(found, resamples=200)
    mixed = compared(blocks[0], on_sheets(2)[1])
    assert (mixed.groups, mixed.by_sheet) == (2, True)


def test_groups_are_those_that_the_tiles_were_split_by() -> None:
    """A random split claims no group. Groups of two experiments that share a tile are merged."""
    pairs = {name: [f"{name}{n // 2}" for n in range(8)] for name in ("folders", "none")}
    thirds = ["x", "y", "y", "z", *(f"one{n}" for n in range(4))]

    def text(first: GroupsSource, second: list[str]) -> tuple[int, str]:
        groups = {"bad": pairs[first], "good": second}
        made = [
            Experiment(e.name, e.predictions.assign(group=groups[e.name]), 0.5, {}, first)
            for e in on_sheets(2)
        ]
        found = compared(*made)
        return found.groups, as_text(found, resamples=200)

    count, by_folder = text("folders", pairs["folders"])
    assert (count, "8 test tiles of 4 folders" in by_folder) == (4, True)
    assert text("folders", thirds)[0] == 3
    _, random = text("none", pairs["none"])
    assert "split is random" in random
    assert "split is random" not in by_folder


def on_sheets(sheets: int) -> list[Experiment]:
    """A model that is always wrong and one that is always right, on some sheets."""
    some = [sheets > int(path.split("/S")[1].split("_")[0]) for path in PATHS]
    return [
        Experiment(e.name, e.predictions[some], e.threshold, SHEETS)
        for e in (experiment("bad", 1 - GOOD), experiment("good", GOOD))
    ]


def test_a_difference_from_the_threshold_is_not_better() -> None:
    """The lower threshold finds a second tile of every sheet, for two false alarms."""
    values = np.tile([0.9, 0.6, 0.4, 0.3], 10)
    found = a_and_b(values, values, (0.7, 0.2))
    verdicts = by_metric(found, "verdict")
    assert (verdicts["recall"], verdicts["precision"]) == ("from the threshold",) * 2
    assert (verdicts["average_precision"], verdicts["roc_auc"]) == ("within noise",) * 2
    text = as_text(found, resamples=200)
    assert "A difference from the threshold is gone when both models call as many tiles" in text
    assert "| a | 70.0 % | 75.0 % | 100.0 % | 100.0 % | 50.0 % | 100.0 % |" in text


def test_different_params_and_chance_are_above_the_table() -> None:
    guessing = noisy(3, 40)
    found = a_and_b(GOOD, guessing)
    assert found.at_chance == ["b"]
    assert found.params.to_dict("index") == {"model": {"a": "a", "b": "b"}}
    above = as_text(found, resamples=200).split("## Metrics")[0]
    assert "| Param that differs | a | b |" in above
    assert "| model | a | b |" in above
    assert "seed" not in above
    assert "At chance, since the 95 % interval of the ROC AUC has 50 % in it: b." in above
    both = a_and_b(guessing, guessing)
    assert "**All are at chance**" in as_text(both, resamples=200)


SCRIPT = "<script>window.hacked = 1</script>"
HOSTILE = "images/yes/x](http:evil.example) ![z_1.tif"


@pytest.fixture
def hostile() -> Comparison:
    """An experiment and a tile whose names contain markup; the tile changes sides."""
    first = experiment("main_1", GOOD)
    first.predictions.loc[5, "path"] = HOSTILE
    other = first.predictions.assign(probability=np.where(np.arange(len(GOOD)) == 5, 0.2, GOOD))
    return compared(first, Experiment(SCRIPT, other, 0.5, SHEETS))


def test_the_text_keeps_names_without_control_characters(hostile: Comparison) -> None:
    text = as_text(hostile, resamples=100)
    assert "40 test tiles of 11 map sheets, the same for all" in text
    assert f"{SCRIPT} gets 0 tiles right that main_1 gets wrong, and 1 wrong that" in text
    assert f"| {SCRIPT} | recall | -5.0 | -" in text
    assert f"| {HOSTILE.rsplit('/', 1)[-1]} | yes | 90 % | 20 % | wrong |" in text
    assert "gets right. Those that changed most:" in text
    shared = MarkdownIt().render(as_text(hostile, resamples=100, escape=True))
    assert re.findall("<(?:a|img|script)", shared) == []
    red = compared(experiment("a", GOOD), experiment("\x1b[2Jred", 1 - GOOD))
    assert "| ?[2Jred | recall | -100.0 |" in as_text(red, resamples=100)


def test_the_page_escapes_names_and_shows_tiles(
    browser: Browser, hostile: Comparison, tmp_path: Path
) -> None:
    tile = tmp_path / "raw" / HOSTILE
    tile.parent.mkdir(parents=True)
    tifffile.imwrite(tile, np.full((8, 8), 12_850, np.uint16))
    page = tmp_path / "compare.html"
    html = as_page(hostile, resamples=100, tiles=tmp_path / "raw", rule=AS_STORED)
    page.write_text(html, encoding="utf-8")
    opened = Opened(browser, page)
    assert (opened.requests, opened.errors) == ([], [])
    text = opened.page.locator("main").inner_text()
    assert SCRIPT in text
    assert HOSTILE.rsplit("/", 1)[-1] in text
    assert opened.page.evaluate("window.hacked") is None
    marks = opened.page.locator("#differences svg .mark-symbol.role-mark path")
    assert marks.count() == len(METRICS)
    assert "|" not in text, "a table that is none"
    pictures = opened.page.locator("td img")
    assert pictures.count() == 1
    assert pictures.evaluate("image => image.naturalWidth") == 8
    source = pictures.get_attribute("src") or ""
    with Image.open(BytesIO(base64.b64decode(source.split(",")[1]))) as image:
        assert image.getpixel((4, 4)) == (50, 50, 50)


def write(table: bytes, metrics: bytes = b'{"threshold": 0.5}') -> None:
    (Path("metrics")).mkdir(exist_ok=True)
    Path("metrics/predictions.csv").write_bytes(table)
    Path("metrics/evaluate.json").write_bytes(metrics)


@pytest.fixture
def repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A Git and DVC repository with one commit of an experiment's files, or a folder of one."""
    params = (ROOT / "params.yaml").read_text()
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    project = tmp_path / getattr(request, "param", ".")
    project.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(project)
    Repo.init(subdir=project != tmp_path).close()
    Path("params.yaml").write_text(params)
    write(experiment("a", GOOD).predictions.to_csv(index=False).encode())
    subprocess.run(["git", "add", "."], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "first"], check=True)
    return tmp_path


def read() -> Experiment:
    files = {"predictions": "metrics/predictions.csv", "metrics": "metrics/evaluate.json"}
    return read_experiment("workspace", **files, params="params.yaml")


HEAD = b"path,label,probability\n"


REFUSED = {
    "predictions.csv": [b"", b"path,label\na,yes\n", HEAD + b"a,yes,0.5,0.7\n", HEAD],
    "predictions.csv: row 1": [
        HEAD + row for row in (b"a,yes,abc\n", b"a,yes,nan\n", b"a,maybe,1\n", b",yes,1\n",
                               b"b,no,1\na,no,1\nb,no,1\n")
    ],
    "predictions.csv: row 2": [HEAD + b"a,yes,1\nb,no,\n", HEAD + b"a,yes,1\nb,no,1.01\n"],
    "evaluate.json": [b"{", b"\xff", b"[]", b"{}", b'{"threshold": NaN}', b"[" * 100_000,
                      b'{"threshold": 1' + b"0" * 400 + b"}"],
}  # fmt: skip


def test_files_that_evaluate_did_not_write_are_refused(repository: Path) -> None:
    for where, contents in REFUSED.items():
        for content in contents:
            write(*((HEAD + b"a,yes,1\n", content) if where == "evaluate.json" else (content,)))
            with pytest.raises(CapetownError) as caught:
                read()
            assert caught.value.where == f"workspace: metrics/{where}", content
            assert "dvc repro evaluate" in caught.value.fix
    write(HEAD + b"a,yes,abc\n")
    with pytest.raises(CapetownError) as caught:
        read()
    assert str(caught.value) == (
        "workspace: metrics/predictions.csv: row 1: probability 'abc' is not a number from 0 to 1; "
        "run `dvc repro evaluate` there"
    )


def test_probabilities_are_read_to_the_last_digit(repository: Path) -> None:
    write(HEAD + b"NA,yes,0.30000000000000004\nb,no,5e-324\n", b'{"threshold": 0.1}')
    found = read()
    assert found.threshold == 0.1
    assert found.predictions["path"].tolist() == ["NA", "b"]
    assert found.predictions["probability"].tolist() == [0.30000000000000004, 5e-324]


@pytest.mark.parametrize("repository", [".", "larger/Süd 1"], indirect=True)
def test_the_command_compares_revisions_experiments_and_the_workspace(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(experiment("b", 1 - GOOD).predictions.to_csv(index=False).encode())
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("seed: 42", "seed: 7").replace("0.001", "1e-3"))
    with Repo() as repo:
        repo.experiments.save(name="bad-idea")
    main(["compare", "HEAD", "bad-idea", "workspace"])
    said = capsys.readouterr().out
    assert "# HEAD, bad-idea, workspace on the same tiles" in said
    for name in ("bad-idea", "workspace"):
        assert f"| {name} | recall | -100.0 | -100.0 to -100.0 | worse |" in said
    assert said.endswith("Page: compare.html\n")
    assert "bad-idea" in Path("compare.html").read_text()
    assert "| seed | 42 | 7 | 7 |" in said
    assert "learning_rate" not in said, "a number written in another way is the same"
    Path("compare.html").unlink()
    main(["compare", "--markdown", "HEAD", "bad-idea"])
    assert "| bad-idea | ROC AUC | -100.0 | -100.0 to -100.0 | worse |" in capsys.readouterr().out
    assert not Path("compare.html").exists()
    for unknown in ("HEAD^{tree}", "nothing"):
        error = refused("compare", unknown, "HEAD")
        assert error.where == f"{unknown}: metrics/predictions.csv"
    assert refused("compare", "HEAD").where == "HEAD"
    error = refused("compare", "HEAD", "workspace", "--out", "nowhere/c.html")
    assert "nowhere/c.html" in str(error)
