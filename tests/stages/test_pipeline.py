"""A user's habits, in a temporary clone with a tiny bucket: repro, experiments, metrics diff."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from capetown.sample import make_bucket
from tests import ROOT, s3

ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
# What makes the pipeline quick. Of so few requests a few failures are a large share.
TINY: dict[str, object] = {
    "transform.error_threshold": 0.5,
    "transform.missing_threshold": 0.5,
    "train.image_size": 64,
    "train.head_epochs": 1,
    "train.epochs": 1,
    "evaluate.bootstrap": 20,
}
OFFLINE = ["-S", "pretrained=false"]


class Repository:
    """A DVC repository on the disk, and the commands a user types in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def try_run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env=ENVIRONMENT, text=True, capture_output=True, check=False
        )

    def run(self, *command: str) -> str:
        done = self.try_run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def copy(self, root: Path) -> "Repository":
        shutil.copytree(self.root, root, symlinks=True)
        return Repository(root)

    def metrics(self) -> dict[str, bytes]:
        """Every metric, plot and prediction that Git tracks, byte for byte."""
        found = sorted((self.root / "metrics").rglob("*.*"))
        return {str(p.relative_to(self.root)): p.read_bytes() for p in found}

    def set_params(self, values: dict[str, object]) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in values.items():
            section = params
            *names, last = key.split(".")
            for name in names:
                section = section[name]
            assert last in section, key
            section[last] = value
        # As DVC writes it: nothing for null.
        text = yaml.safe_dump(params, sort_keys=False).replace(": null\n", ":\n")
        path.write_text(text)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project's files as they are in this checkout, a tiny bucket for data, one commit."""
    root = tmp_path_factory.mktemp("fresh") / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, text=True, capture_output=True, check=True,
    ).stdout  # fmt: skip
    skipped = (".dvc/embedded/", "metrics/", "reports/", "dvc.lock", "data.dvc")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(skipped):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    repository = Repository(root)
    repository.set_params(TINY)
    make_bucket(root / "data", requests=400, tiles=48, seed=1)
    repository.run("git", "init", "-q", "-b", "main")
    repository.run("dvc", "add", "-q", "--no-relink", "data")
    repository.run("dvc", "push", "-q", "-r", "embedded", "data.dvc")
    pointer = yaml.safe_load((root / "data.dvc").read_text())
    pointer["outs"][0] |= {"remote": "embedded", "push": False}
    (root / "data.dvc").write_text(yaml.safe_dump(pointer))
    repository.run("git", "add", ".")
    repository.run("git", "commit", "-q", "-m", "A tiny bucket")
    return repository


@pytest.fixture(scope="session")
def reproduced(fresh: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone of it, after `dvc pull`, `dvc repro` and a commit."""
    root = tmp_path_factory.mktemp("reproduced") / "repository"
    fresh.run("git", "clone", "-q", str(fresh.root), str(root))
    repository = Repository(root)
    repository.run("dvc", "pull", "-q", "data.dvc")
    repository.run("capetown", "check")
    repository.run("dvc", "repro")
    repository.run("git", "add", ".")
    repository.run("git", "commit", "-q", "-m", "Reproduce")
    return repository


@pytest.fixture
def repository(reproduced: Repository, tmp_path: Path) -> Repository:
    return reproduced.copy(tmp_path / "repository")


def test_a_second_repro_does_nothing(repository: Repository) -> None:
    assert "Data and pipelines are up to date." in repository.run("dvc", "repro")
    assert repository.run("git", "status", "--porcelain") == ""


def test_two_runs_from_scratch_give_the_same_metrics(
    reproduced: Repository, fresh: Repository, tmp_path: Path
) -> None:
    root = tmp_path / "again"
    fresh.run("git", "clone", "-q", str(fresh.root), str(root))
    again = Repository(root)
    again.run("dvc", "pull", "-q", "data.dvc")
    again.run("dvc", "repro")
    assert again.metrics() == reproduced.metrics()
    assert (root / "dvc.lock").read_text() == (reproduced.root / "dvc.lock").read_text()


def test_a_run_writes_its_outs_and_nothing_else(reproduced: Repository) -> None:
    stages = yaml.safe_load((reproduced.root / "dvc.yaml").read_text())["stages"]
    outs = {"data"}
    for stage in stages.values():
        for entry in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            outs |= set(entry) if isinstance(entry, dict) else {entry}
    ignored = reproduced.run("git", "ls-files", "-o").splitlines()
    untracked = [
        path
        for path in ignored
        if not path.startswith((".dvc/", "logs/", "checkpoints/"))
        and "__pycache__/" not in path
        and not any(path == out or path.startswith(f"{out}/") for out in outs)
    ]
    assert untracked == []


def test_an_edit_reruns_the_stages_of_its_room_and_no_other(repository: Repository) -> None:
    def changed(path: str, text: str) -> set[str]:
        file = repository.root / path
        before = file.read_text()
        file.write_text(before.replace("\nbackbones:\n", text) if text else f"{before}# edited\n")
        stages = set(json.loads(repository.run("dvc", "status", "--json")))
        file.write_text(before)
        return stages

    another = (
        "\nbackbones:\n  another:\n    architecture: convnext_tiny\n    image_size: 64\n"
        "    batch_size: 8\n    learning_rate: 0.1\n"
    )
    package = "src/capetown"
    assert changed("params.yaml", another) == set()
    assert changed(f"{package}/errors.py", "") == set()
    assert changed(f"{package}/reporting/figures.py", "") == {"report"}
    assert changed(f"{package}/pools/training/loop.py", "") == {"train"}
    assert changed(f"{package}/pools/evaluation/saliency.py", "") == {"evaluate"}
    assert changed(f"{package}/hexes/joining.py", "") == {"transform"}


def test_an_experiment_with_another_model_changes_the_metrics(repository: Repository) -> None:
    repository.run("dvc", "exp", "run", "-n", "caformer", "-S", "model=caformer", *OFFLINE)
    changed = json.loads(repository.run("dvc", "metrics", "diff", "--json"))
    five = {"balanced_accuracy", "average_precision", "precision", "recall", "roc_auc"}
    assert five & set(changed["metrics/evaluate.json"])
    assert "metrics/transform.json" not in changed
    compared = repository.run("capetown", "compare", "HEAD", "caformer", "workspace")
    assert re.search(r"\| caformer \| balanced accuracy \| [+-]\d", compared)
    assert (repository.root / "compare.html").stat().st_size > 100_000
    assert repository.run("git", "status", "--porcelain", "compare.html") == ""
    unknown = repository.try_run("capetown", "compare", "HEAD", "nobody")
    assert unknown.returncode == 1
    assert "nobody: metrics/predictions.csv cannot be read" in unknown.stderr
    model = json.loads((repository.root / "models" / "model.json").read_text())
    assert model["architecture"] == "caformer_s36.sail_in22k_ft_in1k_384"
    lines = repository.run("git", "diff", "--unified=0", "HEAD", "params.yaml").splitlines()
    assert {line for line in lines if line.startswith("+") and line[1] != "+"} == {
        "+model: caformer",
        "+pretrained: false",
    }


def test_a_queued_experiment_runs_the_code_it_was_queued_with(
    repository: Repository, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    source = repository.root / "src" / "capetown" / "errors.py"
    code = source.read_text()
    source.write_text(f"{code}\nopen({str(mark)!r}, 'a').write('queued ')\n")
    repository.run("dvc", "exp", "run", "--queue", "-S", "model=lite,convnext_tiny", *OFFLINE)
    source.write_text(f"{code}\nopen({str(mark)!r}, 'a').write('edited ')\n")
    repository.run("dvc", "exp", "run", "--run-all")
    assert set(mark.read_text().split()) == {"queued"}
    table = json.loads(repository.run("dvc", "exp", "show", "--json"))
    [commit] = [row for row in table if row["rev"] != "workspace"]
    models = {
        e["revs"][0]["data"]["params"]["params.yaml"]["data"]["model"]
        for e in commit["experiments"]
    }
    assert models == {"lite", "convnext_tiny"}


def test_above_a_threshold_the_last_good_join_stays(repository: Repository) -> None:
    hexes = {p.name: p.read_bytes() for p in (repository.root / "hexes").iterdir()}
    metrics = (repository.root / "metrics" / "transform.json").read_bytes()
    repository.set_params({"transform.error_threshold": 0.0})
    done = repository.try_run("dvc", "repro", "transform")
    assert done.returncode != 0
    [said] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert re.search(r"failed to join \(transform.error_threshold is 0.0000%\)", said)
    assert {p.name: p.read_bytes() for p in (repository.root / "hexes").iterdir()} == hexes
    assert (repository.root / "metrics" / "transform.json").read_bytes() == metrics
    shutil.rmtree(repository.root / "hexes")
    repository.run("dvc", "checkout", "transform")
    assert {p.name: p.read_bytes() for p in (repository.root / "hexes").iterdir()} == hexes


def test_plots_have_names_and_overlay_two_revisions(repository: Repository) -> None:
    roc = repository.root / "metrics" / "plots" / "roc.csv"
    repository.run("dvc", "plots", "show", "--out", "shown")
    titles = {"ROC", "Precision-recall", "Calibration"}
    shown = (repository.root / "shown" / "index.html").read_text()
    assert all(f'"{title}' in shown for title in titles)
    roc.write_text(roc.read_text().replace("0.", "0.1", 1))
    repository.run("dvc", "plots", "diff", "--out", "overlaid", "HEAD", "workspace")
    overlaid = (repository.root / "overlaid" / "index.html").read_text()
    assert '"rev": "HEAD"' in overlaid
    assert '"rev": "workspace"' in overlaid


def test_a_default_remote_does_not_receive_the_embedded_bucket(
    repository: Repository, tmp_path: Path
) -> None:
    embedded = repository.root / ".dvc" / "embedded"
    before = sorted(embedded.rglob("*"))
    repository.run("dvc", "remote", "add", "--default", "mine", str(tmp_path / "mine"))
    repository.run("dvc", "push")
    assert sorted(embedded.rglob("*")) == before
    assert repository.run("git", "status", "--porcelain", ".dvc/embedded") == ""
    pushed = {p.parent.name + p.name for p in (tmp_path / "mine").rglob("*") if p.is_file()}
    lock = yaml.safe_load((repository.root / "dvc.lock").read_text())["stages"]
    assert lock["download"]["outs"][0]["md5"] in pushed


def test_a_bucket_of_s3_is_what_an_experiment_names(
    repository: Repository, seaweed: s3.Server, bucket: Path
) -> None:
    source = ["-S", "download.source=s3://public/city"]
    endpoint = ["-S", f"download.endpoint_url={seaweed.url}"]
    repository.run("dvc", "exp", "run", *source, *endpoint, "download")
    raw = repository.root / "raw"
    mirrored = {p.relative_to(raw) for p in raw.rglob("*") if p.is_file()}
    original = {p.relative_to(bucket) for p in bucket.rglob("*") if p.is_file()}
    assert mirrored == original | {Path("inventory.csv")}
    assert all((raw / name).read_bytes() == (bucket / name).read_bytes() for name in original)


def test_an_experiment_goes_on_with_what_had_arrived(
    repository: Repository, bucket: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(bucket, source)
    (source / "sr_hex.csv.gz").write_bytes(b"damaged")
    command = ["dvc", "exp", "run", "-S", f"download.source={source}", "download"]
    before = (repository.root / "raw" / "inventory.csv").read_bytes()
    failed = repository.try_run(*command)
    assert failed.returncode != 0
    assert "sr_hex.csv.gz (is not a whole gzip file" in failed.stderr
    assert (repository.root / "raw" / "inventory.csv").read_bytes() == before
    shutil.copy(bucket / "sr_hex.csv.gz", source)
    assert re.search(r"31 objects, [\d.]+ MB; 1 \(", repository.run(*command))
    assert (repository.root / "raw" / "sr.csv.gz").read_bytes() == (
        bucket / "sr.csv.gz"
    ).read_bytes()


def test_s3_as_a_remote_takes_results_from_one_clone_to_another(
    repository: Repository, seaweed: s3.Server, tmp_path: Path
) -> None:
    def name_remote(clone: Repository) -> None:
        clone.run("dvc", "remote", "add", "-d", "mine", "s3://private/dvc")
        clone.run("dvc", "remote", "modify", "mine", "endpointurl", seaweed.url)
        keys = {"access_key_id": s3.ACCESS_KEY, "secret_access_key": s3.SECRET_KEY}
        for option, value in keys.items():
            clone.run("dvc", "remote", "modify", "--local", "mine", option, value)

    name_remote(repository)
    repository.run("dvc", "push")
    repository.run("git", "clone", "-q", str(repository.root), str(tmp_path / "other"))
    other = Repository(tmp_path / "other")
    name_remote(other)
    other.run("dvc", "pull")
    for name in ("raw/inventory.csv", "hexes/requests.parquet", "models/model.safetensors"):
        assert (other.root / name).read_bytes() == (repository.root / name).read_bytes()
    assert "up to date" in other.run("dvc", "repro")


def test_an_unknown_model_is_answered_with_the_known_ones(repository: Repository) -> None:
    for command in (["dvc", "exp", "run", "-S", "model=resnet"], ["capetown", "check"]):
        done = repository.try_run(*command)
        assert done.returncode != 0
        assert "model: 'resnet' is not one of the backbones: lite, convnext_tiny" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["capetown", "check"], ["python", "-m", "stages.download"]])
def test_missing_data_is_answered_with_the_command_that_brings_it(
    repository: Repository, command: list[str]
) -> None:
    shutil.rmtree(repository.root / "data")
    done = repository.try_run(*command)
    assert done.returncode == 1
    assert "dvc pull data.dvc" in done.stderr
    assert "Traceback" not in done.stderr
