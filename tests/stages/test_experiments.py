"""The commands for experiments in docs/: run, compare, keep and undo."""

import json
import re
import shutil
import time
from pathlib import Path

import yaml
from playwright.sync_api import Browser

from tests import ROOT
from tests.browser import Opened
from tests.stages.repository import BACK, Repository

PAGE = (ROOT / "docs" / "experiments.md").read_text()
KEEP = 'dvc exp apply NAME && git add . && git commit -m "..."'
COLUMNS = ".*(Created|Executor|State|interval|/)|evaluation|hexes|models|raw|splits"
FIVE = {"balanced_accuracy", "average_precision", "precision", "recall", "roc_auc"}


def is_clean(repository: Repository) -> bool:
    tracked = repository.run("git", "status", "--porcelain")
    return tracked == "" and "up to date" in repository.run("dvc", "status")


def test_an_experiment_can_be_kept_and_undone(repository: Repository, tmp_path: Path) -> None:
    """More mistakes make more pictures. Git does not track these yet."""
    repository.run("dvc", "exp", "run", "--temp", "--name", "more", "-S", "evaluate.mistakes=4")
    assert is_clean(repository), "the experiment changed the repository"
    logs = {p.name for p in (repository.root / "logs" / "more").iterdir()}
    assert logs == {"evaluate.log", "report.log"}
    assert BACK in PAGE
    repository.run("dvc", "exp", "apply", "more")
    assert "?? reports/images/mistake-" in repository.run("git", "status", "--porcelain")
    repository.run("sh", "-c", BACK)
    assert is_clean(repository)

    assert KEEP in PAGE
    repository.run("sh", "-c", KEEP.replace("NAME", "more"))
    assert is_clean(repository)
    reports = repository.clone(tmp_path / "clone").root / "reports"
    shown = set(re.findall(r"\bimages/[\w-]+\.(?:png|jpg)", (reports / "index.md").read_text()))
    assert shown == {f"images/{p.name}" for p in (reports / "images").iterdir()}
    assert sum("mistake" in name for name in shown) > 2
    repository.run("git", "checkout", "-q", "HEAD~1")
    repository.run("dvc", "checkout", "-q")
    assert is_clean(repository)


def test_a_shallow_clone_names_the_fix_before_dvc_loses_an_experiment(
    reproduced: Repository, tmp_path: Path
) -> None:
    """DVC itself runs every stage, exits with 0 and keeps nothing."""
    clone = Repository(tmp_path / "clone")
    source = f"file://{reproduced.root}"
    reproduced.run("git", "clone", "-q", "--depth", "1", source, str(clone.root))
    clone.run("dvc", "repro", "--force", "check")
    run = ("dvc", "exp", "run", "--temp", "--name", "kept", "-S", "pretrained=false", "check")
    lost, checked = clone.try_run(*run), clone.try_run("capetown", "check")
    assert lost.returncode != 0
    for said in (lost.stderr, checked.stdout):
        assert "`git fetch --unshallow`" in said
    clone.run("git", "fetch", "-q", "--unshallow")
    clone.run(*run)
    assert "[kept]" in clone.run("dvc", "exp", "list")
    assert "--unshallow" not in clone.try_run("capetown", "check").stdout


def test_a_sweep_is_queued_run_sorted_and_compared(repository: Repository, tmp_path: Path) -> None:
    """Each experiment runs the code from the time it was queued, despite later edits."""
    mark = tmp_path / "mark"
    source = repository.root / "src" / "capetown" / "errors.py"
    code = source.read_text()
    source.write_text(f"{code}\nopen({str(mark)!r}, 'a').write('queued ')\n")
    sweep = ["-S", "model=lite,convnext_tiny", "-S", "train.head_learning_rate=0.003"]
    repository.run("dvc", "exp", "run", "--queue", *sweep, "-S", "pretrained=false", "evaluate")
    source.write_text(f"{code}\nopen({str(mark)!r}, 'a').write('edited ')\n")
    with repository.start("dvc", "queue", "start") as starting:
        assert starting.wait() == 0
    while re.search(r"Queued|Running", repository.run("dvc", "queue", "status")):
        time.sleep(1)
    assert set(mark.read_text().split()) == {"queued"}
    source.write_text(code)
    assert is_clean(repository)

    assert f"--drop '{COLUMNS}'" in PAGE
    show = ["dvc", "exp", "show", "--no-pager", "--only-changed", "--drop", COLUMNS]
    done = repository.try_run(*show, "--sort-by", "roc_auc", COLUMNS="160")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 160
    assert "…" not in done.stdout
    [*names] = re.findall(r"\[([\w-]+)\]", done.stdout)
    assert len(names) == 2
    assert {"lite", "convnext_tiny"} < set(done.stdout.split())

    diff = json.loads(repository.run("dvc", "metrics", "diff", "--json", *names))
    assert set(diff) == {"metrics/evaluate.json"}
    compared = repository.run("capetown", "compare", "HEAD", *names)
    above = compared.split("## Metrics")[0]
    assert "| model | lite |" in above
    assert "| pretrained | True | False | False |" in above
    assert (repository.root / "compare.html").stat().st_size > 100_000
    assert is_clean(repository)


def test_the_metrics_are_few(reproduced: Repository) -> None:
    shown = json.loads(reproduced.run("dvc", "metrics", "show", "--json"))[""]["data"]
    names = ("evaluate", "requests", "transform")
    assert set(shown) == {f"metrics/{name}.json" for name in names}
    found = shown["metrics/evaluate.json"]["data"]
    assert set(found) == FIVE | {f"{name}_interval" for name in FIVE} | {
        "threshold",
        "n",
        "groups_source",
        "valid_for",
        "unlike",
    }


def test_plots_of_two_revisions_open_without_a_network(
    repository: Repository, browser: Browser
) -> None:
    repository.run("capetown", "plots")
    history = repository.root / "metrics" / "history.csv"
    history.write_text(history.read_text().replace("0.", "0.1"))
    repository.run("dvc", "plots", "diff", "HEAD", "workspace")
    assert repository.run("git", "status", "--porcelain") == " M metrics/history.csv\n"
    opened = Opened(browser, repository.root / "dvc_plots" / "index.html")
    assert (opened.requests, opened.errors) == ([], [])
    plots = yaml.safe_load((repository.root / "metrics" / "dvc.yaml").read_text())["plots"]
    titles = [plot["title"] for entry in plots for plot in entry.values()]
    drawn = opened.page.locator("svg.marks").all()
    assert len(drawn) == len(titles) == 7
    texts = {plot: plot.locator("text").all_text_contents() for plot in drawn}
    found = {title: next(p for p, text in texts.items() if title in text) for title in titles}
    for title, plot in found.items():
        legend = plot.locator(".role-legend-label text").all_text_contents()
        assert sorted(legend) == ([] if "Confusion" in title else ["HEAD", "workspace"]), title
        dashed = plot.locator("path[stroke-dasharray='4,4']").count()
        assert dashed == title.startswith(("ROC", "Calibration")), title
    axes = found["Metrics on the validation fold"].locator(".role-axis-label text")
    assert {"1", "2"} <= set(axes.all_text_contents())
    assert "0" not in axes.all_text_contents()
    titled = found["Confusion matrix on the test fold"].locator(".role-axis-title text")
    assert set(titled.all_text_contents()) == {"The model says", "The label says"}


def test_a_run_without_tiles_reports_the_requests(repository: Repository) -> None:
    model = (repository.root / "models" / "model.safetensors").read_bytes()
    repository.set_params({"download.tiles": []})
    shutil.rmtree(repository.root / "models")  # else a model would be lost
    said = repository.run("dvc", "repro")
    assert "no tiles in raw/images/swimming-pool/: " in said
    assert not is_clean(repository)
    refused = repository.try_run("capetown", "predict", "data", "--out", "-")
    assert "see download.tiles in params.yaml" in refused.stderr
    report = (repository.root / "reports" / "index.md").read_text()
    assert "put `images/swimming-pool/**` among `download.tiles` in params.yaml" in report
    assert "## Where the requests come from" in report
    assert "balanced accuracy" not in report
    assert "up to date" in repository.run("dvc", "status")
    repository.run("sh", "-c", BACK)
    assert is_clean(repository)
    assert (repository.root / "models" / "model.safetensors").read_bytes() == model
