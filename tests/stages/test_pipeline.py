"""Common commands in a clone with a tiny bucket: repro, pull, push, share, and other buckets."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests import ROOT, s3
from tests.stages.repository import Repository
from tools.synthetic import make_bucket

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()


def test_requests_and_splits_need_no_weights(repository: Repository, tmp_path: Path) -> None:
    repository.set_params({"model": "caformer"})
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = repository.try_run("dvc", "repro", "--force", "transform", "split", **offline)
    assert done.returncode == 0, done.stderr


def test_dvc_keeps_no_second_copy_of_the_data(repository: Repository) -> None:
    """Its cache holds hard links to the same files."""
    repository.run("dvc", "checkout", "-q", "--relink", "raw/requests", "raw/images")
    files = [path for path in (repository.root / "raw").rglob("*") if path.is_file()]
    assert len(files) > 150
    assert all(path.stat().st_nlink > 1 for path in files)
    assert "up to date" in repository.run("dvc", "status")


def test_two_runs_from_scratch_give_the_same_metrics(
    reproduced: Repository, fresh: Repository, tmp_path: Path
) -> None:
    again = fresh.clone(tmp_path / "again")
    again.run("dvc", "pull", "-q", "data.dvc")
    again.run("dvc", "repro")
    assert again.files("metrics") == reproduced.files("metrics")
    assert (again.root / "dvc.lock").read_text() == (reproduced.root / "dvc.lock").read_text()


def test_a_run_writes_only_its_outs(reproduced: Repository) -> None:
    stages = yaml.safe_load((reproduced.root / "dvc.yaml").read_text())["stages"]
    entries = [entry for stage in stages.values() for kind in ("outs", "metrics", "plots")
               for entry in stage.get(kind, [])]  # fmt: skip
    allowed = {".dvc", "logs", "checkpoints", "data"}.union(*entries)
    untracked = map(Path, reproduced.run("git", "ls-files", "-o").splitlines())
    other = [path for path in untracked if not allowed & {str(p) for p in (path, *path.parents)}]
    assert [path for path in other if path.parent.name != "__pycache__"] == []


def test_an_edit_makes_only_the_stages_of_its_folder_stale(repository: Repository) -> None:
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
    assert changed("params.yaml", another) == {"check"}
    assert changed(f"{package}/errors.py", "") == set()
    assert changed(f"{package}/report/charts.py", "") == {"report"}
    assert changed(f"{package}/pools/training/loop.py", "") == {"train"}
    assert changed(f"{package}/pools/evaluation/saliency_map.py", "") == {"evaluate"}
    assert changed(f"{package}/requests/join.py", "") == {"transform", "report"}


def test_dvc_commit_accepts_a_new_comment(repository: Repository) -> None:
    outs = repository.files("hexes", "metrics", "reports")
    with (repository.root / "src/capetown/requests/join.py").open("a") as module:
        module.write("# A comment.\n")
    repository.run("dvc", "commit", "-f")
    assert "up to date" in repository.run("dvc", "repro")
    assert repository.files("hexes", "metrics", "reports") == outs


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
    for stage in ("download_requests", "download_tiles"):
        assert lock[stage]["outs"][0]["md5"] in pushed


def test_an_experiment_reads_from_an_s3_bucket(
    repository: Repository, seaweed: s3.Server, bucket: Path
) -> None:
    source = ["-S", "download.bucket=s3://public/city"]
    endpoint = ["-S", f"download.endpoint_url={seaweed.url}"]
    repository.run("dvc", "exp", "run", *source, *endpoint, "download_requests", "download_tiles")
    raw = repository.root / "raw"
    mirrored = {p.relative_to(raw) for p in raw.rglob("*") if p.is_file()}
    original = {p.relative_to(bucket) for p in bucket.rglob("*") if p.is_file()}
    # No stage reads these.
    original -= {Path("sr_hex_truncated.csv"), Path("city-hex-polygons-8-10.geojson")}
    kept = {name if name.parts[0] == "images" else "requests" / name: name for name in original}
    assert mirrored == {*kept, Path("images/inventory.csv"), Path("requests/inventory.csv")}
    assert all((raw / k).read_bytes() == (bucket / name).read_bytes() for k, name in kept.items())


def test_an_experiment_keeps_the_objects_that_had_arrived(
    repository: Repository, bucket: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(bucket, source)
    (source / "sr_hex.csv.gz").write_bytes(b"damaged")
    command = ["dvc", "exp", "run", "-S", f'download.folder="{source}"', "download_requests"]
    before = (repository.root / "raw/requests/inventory.csv").read_bytes()
    failed = repository.try_run(*command)
    assert failed.returncode != 0
    assert "sr_hex.csv.gz (is not gzip, though its name ends in .gz" in failed.stderr
    assert (repository.root / "raw/requests/inventory.csv").read_bytes() == before
    shutil.copy(bucket / "sr_hex.csv.gz", source)
    said = repository.run(*command)
    assert re.search(r"3 objects, [\d.]+ MB, kept in [\d.]+ MB; 1 \([\d.]+ MB\) fetched", said)


def test_new_files_in_a_folder_are_noticed(
    repository: Repository, bucket: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(bucket, source)
    repository.set_params({"download.folder": str(source)})
    repository.run("dvc", "repro", "transform", "download_tiles")
    up_to_date = "Data and pipelines are up to date.\n"
    assert repository.run("dvc", "status", "transform", "download_tiles") == up_to_date
    tiles = Path("images", "swimming-pool", "yes")
    shutil.copy(min((source / tiles).glob("*.tif")), source / tiles / "W35A_7_58.tif")
    assert "download_tiles" in repository.run("dvc", "status", "download_tiles")
    said = repository.run("dvc", "repro", "transform", "download_tiles")
    assert (repository.root / "raw" / tiles / "W35A_7_58.tif").exists()
    assert "Running stage 'transform'" not in said


# Where the results of requests begin. All others are those of tiles.
REQUESTS = ("raw/requests/", "hexes/", "metrics/transform.json", "metrics/quality.json")


@pytest.mark.parametrize("kind", ["requests", "tiles"])
def test_a_source_of_one_kind_leaves_the_results_of_the_other_alone(
    repository: Repository, tmp_path: Path, kind: str
) -> None:
    """The tiles have no manifests."""

    def results() -> dict[str, bytes]:
        return repository.files("raw", "hexes", "splits", "models", "evaluation", "metrics")

    source, data = tmp_path / "source", repository.root / "data"
    if kind == "requests":
        target, other, absent, kept = "transform", "evaluate", "tiles", "models"
        make_bucket(source, requests=300, tiles=0, seed=2)
        shutil.rmtree(source / "images", ignore_errors=True)
    else:
        target, other, absent, kept = "evaluate", "transform", "requests", "hexes"
        shutil.copytree(data / "images", source / "images")
        min(source.rglob("*.tif")).unlink()
        for manifest in source.rglob("manifest"):
            manifest.unlink()
    before = results()
    repository.set_params({"download.folder": str(source)})
    repository.run("dvc", "repro", target)
    after = results()
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert f"raw/{'requests' if kind == 'requests' else 'images'}/inventory.csv" in changed
    assert {path.startswith(REQUESTS) for path in changed} == {kind == "requests"}
    untouched = ["transform"] if kind == "tiles" else ["split", "train"]
    assert "up to date" in repository.run("dvc", "status", *untouched)

    # The rest names the way on, and neither it nor an empty choice loses results.
    empty: dict[str, object] = {f"download.{absent}": []}
    for setting, said in (
        ({}, f"no {absent} in {source}"),
        (empty, f"error: {kept}/: has results of {absent}"),
    ):
        repository.set_params(setting)
        refused = repository.try_run("dvc", "repro")
        assert said in refused.stderr
        assert f"`dvc repro {target}`" in refused.stderr
        assert results() == after
    repository.run("git", "checkout", "-q", "params.yaml")
    assert f"Running stage '{other}'" not in repository.run("dvc", "repro", other)
    assert "up to date" in repository.run("dvc", "status", other)


def test_an_s3_remote_shares_results_with_another_clone(
    repository: Repository, seaweed: s3.Server, tmp_path: Path
) -> None:
    def name_remote(clone: Repository) -> None:
        clone.run("dvc", "remote", "add", "-d", "mine", "s3://written/dvc")
        clone.run("dvc", "remote", "modify", "mine", "endpointurl", seaweed.url)
        keys = {"access_key_id": s3.ACCESS_KEY, "secret_access_key": s3.SECRET_KEY}
        for option, value in keys.items():
            clone.run("dvc", "remote", "modify", "--local", "mine", option, value)

    name_remote(repository)
    repository.run("dvc", "push")
    other = repository.clone(tmp_path / "other")
    name_remote(other)
    other.run("dvc", "pull")
    for name in ("raw/images/inventory.csv", "hexes/requests.parquet", "models/model.safetensors"):
        assert (other.root / name).read_bytes() == (repository.root / name).read_bytes()
    assert "up to date" in other.run("dvc", "repro")


def test_missing_data_names_the_command_that_fetches_it(repository: Repository) -> None:
    shutil.rmtree(repository.root / "data")
    done = repository.try_run("python", "-m", "stages.download_tiles")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("run `dvc pull data.dvc`")


def test_a_plain_pull_in_a_fresh_clone(reproduced: Repository, tmp_path: Path) -> None:
    """Outs that nobody pushed are missing. The embedded data arrives."""
    clone = reproduced.clone(tmp_path / "clone")
    plain = clone.try_run("dvc", "pull")
    assert plain.returncode != 0
    assert "missing-files" in plain.stderr
    assert (clone.root / "data" / "sr.csv.gz").exists()


def test_an_experiment_from_before_the_remote_is_pushed_with_its_model(
    repository: Repository, tmp_path: Path
) -> None:
    """A remote in the local config applies to every revision."""
    setting = ["-S", "evaluate.mistakes=2", "evaluate"]
    repository.run("dvc", "exp", "run", "--temp", "--name", "mine", *setting)
    hub = tmp_path / "hub.git"
    repository.run("git", "clone", "-q", "--bare", str(repository.root), str(hub))
    repository.run("git", "remote", "set-url", "origin", str(hub))
    add = ["dvc", "remote", "add", "--local", "--default", "mine", str(tmp_path / "remote")]
    assert " ".join(add[:-1]) + " URL" in PAGE
    repository.run(*add)
    repository.run("dvc", "exp", "push", "origin", "mine")

    clone = Repository(tmp_path / "clone")
    repository.run("git", "clone", "-q", str(hub), str(clone.root))
    clone.run(*add)
    there = "dvc pull data.dvc && dvc exp pull origin NAME && dvc exp apply NAME"
    assert f"`{there}`" in PAGE
    clone.run("sh", "-c", there.replace("NAME", "mine"))
    model = Path("models", "model.safetensors")
    assert (clone.root / model).read_bytes() == (repository.root / model).read_bytes()
    assert (clone.root / "evaluation").is_dir()


def test_the_log_of_a_failed_experiment_is_kept(repository: Repository) -> None:
    """DVC removes the temporary workspace, so the log is kept in the repository."""
    setting = "transform.missing_threshold=0"
    done = repository.try_run("dvc", "exp", "run", "--temp", "--name", "strict", "-S", setting)
    assert done.returncode != 0
    [said] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "transform.missing_threshold" in said
    log = repository.root / "logs" / "strict" / "transform.log"
    assert log.read_text().splitlines()[-1] == said
