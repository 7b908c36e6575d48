"""Experiments on the same tiles: differences by hand, verdicts, and tiles that changed sides."""

import base64
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from dvc.repo import Repo
from PIL import Image
from playwright.sync_api import Browser
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED
from capetown.pools.evaluation.compare import Comparison, Experiment, changed_sides, compare
from capetown.pools.evaluation.revisions import read_experiment
from capetown.pools.metrics import METRICS
from capetown.report.comparison_page import as_page, as_text
from tests import ROOT
from tests.browser import Opened

# Ten sheets of four tiles, two of each class.
PATHS = [f"images/{label}/S{sheet}_{n}_0.tif" for sheet in range(10) for n, label in
         enumerate(["yes", "yes", "no", "no"])]  # fmt: skip
LABELS = ["yes" if "/yes/" in path else "no" for path in PATHS]
# Tiles of a sheet stay together.
SHEETS: dict[str, object] = {"split.strategy": "sheet"}
TRUTH = np.array([label == "yes" for label in LABELS])


def experiment(name: str, probabilities: np.ndarray, threshold: float = 0.5) -> Experiment:
    table = pd.DataFrame({"path": PATHS, "label": LABELS, "probability": probabilities})
    return Experiment(name, table, threshold, SHEETS | {"model": name, "seed": 1})


def noisy(seed: int, noise: float) -> np.ndarray:
    drawn = TRUTH + np.random.default_rng(seed).normal(0, noise, len(TRUTH))
    return np.clip(drawn * 0.5 + 0.25, 0, 1)


GOOD = np.where(TRUTH, 0.9, 0.1)


def test_an_experiment_against_itself_is_within_noise() -> None:
    found = compare(
        [experiment("a", noisy(1, 1)), experiment("b", noisy(1, 1))], resamples=200, seed=1
    )
    assert found.differences["difference"].tolist() == [0.0] * len(METRICS)
    assert set(found.differences["verdict"]) == {"within noise"}
    assert changed_sides(found, "a", "b").empty


def test_metrics_and_differences_are_scikit_learns() -> None:
    first, second = noisy(1, 1), noisy(2, 0.6)
    found = compare(
        [experiment("a", first, 0.4), experiment("b", second, 0.6)], resamples=50, seed=1
    )
    order = np.argsort(PATHS)
    assert found.tiles["path"].tolist() == [PATHS[n] for n in order]
    expected = {
        "balanced_accuracy": [
            balanced_accuracy_score(TRUTH, first >= 0.4),
            balanced_accuracy_score(TRUTH, second >= 0.6),
        ],
        "average_precision": [average_precision_score(TRUTH, p) for p in (first, second)],
        "roc_auc": [roc_auc_score(TRUTH, p) for p in (first, second)],
    }
    differences = found.differences.set_index("metric")["difference"]
    for metric, values in expected.items():
        np.testing.assert_allclose(found.metrics[metric], values)
        assert differences[metric] == pytest.approx(values[1] - values[0])


def test_a_clear_difference_is_more_than_noise_in_its_direction() -> None:
    bad = experiment("bad", 1 - GOOD)
    found = compare([bad, experiment("good", GOOD)], resamples=200, seed=1)
    expected = dict.fromkeys(METRICS, 1.0)
    expected["average_precision"] = 1 - average_precision_score(TRUTH, 1 - GOOD)
    differences = found.differences.set_index("metric")["difference"]
    assert differences.to_dict() == pytest.approx(expected)
    assert set(found.differences["verdict"]) == {"better"}
    back = compare([experiment("good", GOOD), bad], resamples=200, seed=1)
    assert set(back.differences["verdict"]) == {"worse"}


def test_one_tile_of_difference_is_noise_and_is_named() -> None:
    other = GOOD.copy()
    other[5] = 0.2
    found = compare([experiment("a", GOOD), experiment("b", other)], resamples=500, seed=1)
    recall = found.differences.set_index("metric").loc["recall"]
    assert recall["difference"] == pytest.approx(-0.05)
    assert recall["low"] < 0 == recall["high"]
    assert recall["verdict"] == "within noise"
    assert changed_sides(found, "a", "b").to_dict("records") == [
        {"path": PATHS[5], "label": "yes", "before": 0.9, "after": 0.2, "now": "wrong"}
    ]


def test_whole_sheets_are_resampled() -> None:
    """All tiles of one sheet of ten turn wrong: it is missing from a third of the resamples."""
    other = np.where([path.split("/")[-1].startswith("S3_") for path in PATHS], 1 - GOOD, GOOD)
    found = compare([experiment("a", GOOD), experiment("b", other)], resamples=4000, seed=1)
    recall = found.differences.set_index("metric").loc["recall"]
    # 0 to 3 of 10 draws are that sheet in 97.5 % of the resamples.
    assert (recall["low"], recall["high"]) == (pytest.approx(-0.3), 0.0)


def test_only_tiles_that_all_judged_alike_are_compared() -> None:
    one, two = experiment("a", GOOD), experiment("b", GOOD)
    relabelled = two.predictions.copy()
    relabelled.loc[0, "label"] = "no"
    found = compare(
        [one, Experiment("b", relabelled.drop(index=7), 0.5, SHEETS)], resamples=20, seed=1
    )
    assert len(found.tiles) == 38
    assert found.left_out == 2


def test_experiments_without_a_common_tile_cannot_be_compared() -> None:
    other = experiment("b", GOOD)
    moved = other.predictions.assign(path=[f"other/{path}" for path in PATHS])
    with pytest.raises(CapetownError, match="a, b: no test tile that all of them judged"):
        compare([experiment("a", GOOD), Experiment("b", moved, 0.5, SHEETS)], resamples=20, seed=1)
    with pytest.raises(CapetownError, match="name each experiment once"):
        compare([other, other], resamples=20, seed=1)


@pytest.mark.parametrize(("sheets", "interval"), [(1, False), (4, False), (5, True), (7, True)])
def test_of_few_sheets_nothing_can_be_told(sheets: int, interval: bool) -> None:
    """Of seven, two exchanges of 128 show the largest difference: five times that is over 5 %."""
    found = compare(on_sheets(sheets), resamples=200, seed=1)
    assert found.groups == sheets
    assert set(found.differences["verdict"]) == {"cannot tell"}
    assert found.differences["low"].notna().all() == interval
    text = as_text(found, resamples=200)
    assert (
        f"Here it cannot be told: neighbouring tiles are alike, and {sheets} map sheets are" in text
    )
    page = as_page(found, resamples=200, tiles=Path("nowhere"), rule=AS_STORED)
    assert "NaN" not in page.split('<script type="application/json"')[1].split("</script>")[0]


def test_blocks_are_groups_of_their_own_unless_an_experiment_keeps_sheets_together() -> None:
    blocks = [Experiment(e.name, e.predictions, e.threshold, {}) for e in on_sheets(2)]
    found = compare(blocks, resamples=200, seed=1)
    assert (found.groups, found.by_sheet) == (8, False)
    assert "8 test tiles of 8 blocks of map sheets" in as_text(found, resamples=200)
    mixed = compare([blocks[0], on_sheets(2)[1]], resamples=200, seed=1)
    assert (mixed.groups, mixed.by_sheet) == (2, True)


def test_of_eight_sheets_it_can() -> None:
    found = compare(on_sheets(8), resamples=200, seed=1)
    assert set(found.differences["verdict"]) == {"better"}


def on_sheets(sheets: int) -> list[Experiment]:
    """A model that is always wrong and one that is always right, on some of the sheets."""
    some = [sheets > int(path.split("/S")[1].split("_")[0]) for path in PATHS]
    return [
        Experiment(e.name, e.predictions[some], e.threshold, SHEETS)
        for e in (experiment("bad", 1 - GOOD), experiment("good", GOOD))
    ]


def test_a_difference_that_goes_with_the_threshold_is_not_better() -> None:
    """A second tile of every sheet is found at a lower threshold, for two false alarms."""
    said = np.tile([0.9, 0.6, 0.4, 0.3], 10)
    found = compare(
        [experiment("high", said, 0.7), experiment("low", said, 0.2)], resamples=200, seed=1
    )
    verdicts = found.differences.set_index("metric")["verdict"]
    assert (verdicts["recall"], verdicts["precision"]) == ("from the threshold",) * 2
    assert (verdicts["average_precision"], verdicts["roc_auc"]) == ("within noise",) * 2
    text = as_text(found, resamples=200)
    assert "A difference from the threshold is gone when both models call as many tiles" in text
    assert "| high | 70.0 % | 75.0 % | 100.0 % | 100.0 % | 50.0 % | 100.0 % |" in text


def test_what_differs_and_who_is_at_chance_stand_above_the_table() -> None:
    guessing = noisy(3, 40)
    found = compare([experiment("a", GOOD), experiment("b", guessing)], resamples=200, seed=1)
    assert found.at_chance == ["b"]
    assert found.params.to_dict("index") == {"model": {"a": "a", "b": "b"}}
    above = as_text(found, resamples=200).split("## Metrics")[0]
    assert "| Param that differs | a | b |" in above
    assert "| model | a | b |" in above
    assert "seed" not in above
    assert "At chance, since the 95 % interval of the ROC AUC has 50 % in it: b." in above
    both = compare([experiment("a", guessing), experiment("b", guessing)], resamples=200, seed=1)
    assert "**All are at chance**" in as_text(both, resamples=200)


def test_one_experiment_or_one_class_cannot_be_compared() -> None:
    with pytest.raises(CapetownError, match="a: name two or more experiments"):
        compare([experiment("a", GOOD)], resamples=20, seed=1)
    pools = [
        Experiment(name, experiment(name, GOOD).predictions.query("label == 'yes'"), 0.5, SHEETS)
        for name in ("a", "b")
    ]
    with pytest.raises(CapetownError, match="a, b: all test tiles that they share are `yes`"):
        compare(pools, resamples=20, seed=1)


# --- the text and the page ---------------------------------------------------------------------

SCRIPT = "<script>window.hacked = 1</script>"
HOSTILE = "images/yes/x](http:evil.example) ![z_1.tif"


@pytest.fixture
def hostile() -> Comparison:
    """An experiment and a tile with names that would be markup; the tile changes sides."""
    first = experiment("main_1", GOOD)
    first.predictions.loc[5, "path"] = HOSTILE
    other = first.predictions.assign(probability=np.where(np.arange(len(GOOD)) == 5, 0.2, GOOD))
    return compare([first, Experiment(SCRIPT, other, 0.5, SHEETS)], resamples=100, seed=1)


def test_the_text_says_it_with_names_as_they_are(hostile: Comparison) -> None:
    text = as_text(hostile, resamples=100)
    assert "40 test tiles of 11 map sheets, the same for all" in text
    assert f"{SCRIPT} gets 0 tiles right that main_1 gets wrong, and 1 wrong that" in text
    assert f"| {SCRIPT} | recall | -5.0 | -" in text
    assert f"| {HOSTILE.rsplit('/', 1)[-1]} | yes | 90 % | 20 % | wrong |" in text
    assert "gets right. Those that changed most:" in text


def test_the_text_does_not_steer_the_terminal() -> None:
    name = "\x1b[2Jred"
    found = compare([experiment("a", GOOD), experiment(name, 1 - GOOD)], resamples=100, seed=1)
    assert "| ?[2Jred | recall | -100.0 |" in as_text(found, resamples=100)


def test_the_page_shows_names_as_text_and_tiles_as_pictures(
    browser: Browser, hostile: Comparison, tmp_path: Path
) -> None:
    tile = tmp_path / "raw" / HOSTILE
    tile.parent.mkdir(parents=True)
    tifffile.imwrite(tile, np.full((8, 8), 12_850, np.uint16))
    page = tmp_path / "compare.html"
    page.write_text(
        as_page(hostile, resamples=100, tiles=tmp_path / "raw", rule=AS_STORED), encoding="utf-8"
    )
    opened = Opened(browser, page)
    assert (opened.requests, opened.errors) == ([], [])
    text = opened.page.locator("main").inner_text()
    assert SCRIPT in text
    assert HOSTILE.rsplit("/", 1)[-1] in text
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("#differences svg .mark-symbol.role-mark path").count() == len(
        METRICS
    )
    assert "gets right. Those that changed most:" in text
    assert "|" not in text, "a table that is none"
    pictures = opened.page.locator("td img")
    assert pictures.count() == 1
    assert pictures.evaluate("image => image.naturalWidth") == 8
    source = pictures.get_attribute("src") or ""
    with Image.open(BytesIO(base64.b64decode(source.split(",")[1]))) as image:
        assert image.getpixel((4, 4)) == (50, 50, 50)


@pytest.mark.parametrize(
    "path", ["{}/secret.tif", "../secret.tif", "a/../../secret.tif", "a\0.tif"]
)
def test_no_file_from_elsewhere_is_shown(path: str, tmp_path: Path) -> None:
    (tmp_path / "raw" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.tif")
    first = experiment("a", GOOD)
    first.predictions.loc[0, "path"] = path.format(tmp_path)
    other = Experiment("b", first.predictions.assign(probability=1 - GOOD), 0.5, SHEETS)
    found = compare([first, other], resamples=100, seed=1)
    assert "image/jpeg" not in as_page(found, resamples=100, tiles=tmp_path / "raw", rule=AS_STORED)


# --- what revisions hold -----------------------------------------------------------------------


def git(*arguments: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *author, *arguments], check=True)


def write(table: bytes, figures: bytes = b'{"threshold": 0.5}') -> None:
    (Path("metrics")).mkdir(exist_ok=True)
    Path("metrics/predictions.csv").write_bytes(table)
    Path("metrics/evaluate.json").write_bytes(figures)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of Git and DVC, entered, with one commit of an experiment's files."""
    params = (ROOT / "params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    Repo.init().close()
    Path("params.yaml").write_text(params)
    write(experiment("a", GOOD).predictions.to_csv(index=False).encode())
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    return tmp_path


def read(revision: str) -> Experiment:
    return read_experiment(
        revision,
        predictions="metrics/predictions.csv",
        figures="metrics/evaluate.json",
        params="params.yaml",
    )


HEAD = b"path,label,probability\n"


@pytest.mark.parametrize(
    ("table", "figures", "said"),
    [
        (b"", b"", "predictions.csv: not a table of path, label and probability"),
        (b"\x00\xff\xfe", b"", "predictions.csv: not a table of path, label and probability"),
        (b"path,label\na,yes\n", b"", "predictions.csv: not a table of path, label and"),
        (HEAD + b"a,yes,0.5,0.7\n", b"", "predictions.csv: not a table of path, label and"),
        (HEAD, b"", "predictions.csv: no tile in it"),
        (HEAD + b"a,yes,abc\n", b"", "row 1: probability 'abc' is not a number from 0 to 1"),
        (HEAD + b"a,yes,1\nb,no,\n", b"", "row 2: probability '' is not a number from 0"),
        (HEAD + b"a,yes,nan\n", b"", "row 1: probability 'nan' is not a number from 0 to 1"),
        (HEAD + b"a,yes,1.01\n", b"", "row 1: probability '1.01' is not a number from 0 to 1"),
        (HEAD + b"a,maybe,1\n", b"", "row 1: label 'maybe' is not no or yes"),
        (HEAD + b",yes,1\n", b"", "row 1: path '' is not a path of its own"),
        (HEAD + b"b,no,1\na,no,1\nb,no,1\n", b"", "row 1: path 'b' is not a path of its own"),
        (HEAD + b"a,yes,1\n", b"{", "evaluate.json: no `threshold` from 0 to 1 in it"),
        (HEAD + b"a,yes,1\n", b"\xff", "evaluate.json: no `threshold` from 0 to 1 in it"),
        (HEAD + b"a,yes,1\n", b"[]", "evaluate.json: no `threshold` from 0 to 1 in it"),
        (HEAD + b"a,yes,1\n", b"{}", "evaluate.json: no `threshold` from 0 to 1 in it"),
        (HEAD + b"a,yes,1\n", b'{"threshold": null}', "no `threshold` from 0 to 1 in it"),
        (HEAD + b"a,yes,1\n", b'{"threshold": NaN}', "no `threshold` from 0 to 1 in it"),
    ],
)
def test_what_evaluate_did_not_write_is_one_line(
    repository: Path, table: bytes, figures: bytes, said: str
) -> None:
    write(table, figures)
    with pytest.raises(CapetownError, match="workspace: metrics/") as caught:
        read("workspace")
    assert said in str(caught.value)
    assert str(caught.value).endswith("; run `dvc repro evaluate` there again.")


def test_probabilities_are_read_to_the_last_digit(repository: Path) -> None:
    write(HEAD + b"NA,yes,0.30000000000000004\nb,no,5e-324\n", b'{"threshold": 0.1}')
    found = read("workspace")
    assert found.threshold == 0.1
    assert found.predictions["path"].tolist() == ["NA", "b"]
    assert found.predictions["probability"].tolist() == [0.30000000000000004, 5e-324]


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
    for no_commit in ("HEAD:params.yaml", "HEAD^{tree}"):
        with pytest.raises(SystemExit, match=r"metrics/predictions\.csv cannot be read") as caught:
            main(["compare", no_commit, "HEAD"])
        assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit, match=r"nothing: metrics/predictions\.csv cannot be read"):
        main(["compare", "HEAD", "nothing"])
    with pytest.raises(SystemExit, match="HEAD: name two or more experiments to compare"):
        main(["compare", "HEAD"])
    with pytest.raises(SystemExit, match=r"error: nowhere/c\.html: cannot be written \(No such"):
        main(["compare", "HEAD", "workspace", "--out", "nowhere/c.html"])
