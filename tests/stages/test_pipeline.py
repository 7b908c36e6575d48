"""The usual commands in a temporary clone with a tiny bucket: repro, pull, push, buckets."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests import s3
from tests.stages.repository import Repository


def test_a_second_repro_does_nothing(repository: Repository) -> None:
    assert "Data and pipelines are up to date." in repository.run("dvc", "repro")
    assert repository.run("git", "status", "--porcelain") == ""


def test_requests_and_splits_need_no_weights(repository: Repository, tmp_path: Path) -> None:
    repository.set_params({"model": "caformer"})
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = repository.try_run("dvc", "repro", "--force", "transform", "split", **offline)
    assert done.returncode == 0, done.stderr
    done = repository.try_run("dvc", "repro", **offline)
    assert done.returncode != 0
    assert "caformer_s36.sail_in22k_ft_in1k_384 are not cached" in done.stderr


def test_dvc_holds_no_second_copy_of_the_data(repository: Repository) -> None:
    """Its cache holds hard links to the same files."""
    repository.run("dvc", "checkout", "-q", "--relink", "raw")
    files = [path for path in (repository.root / "raw").rglob("*") if path.is_file()]
    assert len(files) > 150
    assert all(path.stat().st_nlink > 1 for path in files)
    assert "up to date" in repository.run("dvc", "status")


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
    assert lock["download"]["outs"][0]["md5"] in pushed


def test_an_experiment_reads_from_an_s3_bucket(
    repository: Repository, seaweed: s3.Server, bucket: Path
) -> None:
    source = ["-S", "download.source=s3://public/city"]
    endpoint = ["-S", f"download.endpoint_url={seaweed.url}"]
    repository.run("dvc", "exp", "run", *source, *endpoint, "download")
    raw = repository.root / "raw"
    mirrored = {p.relative_to(raw) for p in raw.rglob("*") if p.is_file()}
    original = {p.relative_to(bucket) for p in bucket.rglob("*") if p.is_file()}
    # No stage reads these.
    original -= {Path("sr_hex_truncated.csv"), Path("city-hex-polygons-8-10.geojson")}
    assert mirrored == original | {Path("inventory.csv")}
    assert all((raw / name).read_bytes() == (bucket / name).read_bytes() for name in original)


def test_an_experiment_keeps_the_objects_that_had_arrived(
    repository: Repository, bucket: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(bucket, source)
    (source / "sr_hex.csv.gz").write_bytes(b"damaged")
    place = ["-S", f'download.source="{source}"', "-S", f'download.watch="{source}"']
    command = ["dvc", "exp", "run", *place, "download"]
    before = (repository.root / "raw" / "inventory.csv").read_bytes()
    failed = repository.try_run(*command)
    assert failed.returncode != 0
    assert "sr_hex.csv.gz (is not a whole gzip file" in failed.stderr
    assert (repository.root / "raw" / "inventory.csv").read_bytes() == before
    shutil.copy(bucket / "sr_hex.csv.gz", source)
    said = repository.run(*command)
    assert re.search(r"29 objects, [\d.]+ MB, kept in [\d.]+ MB; 1 \([\d.]+ MB\) fetched", said)
    assert (repository.root / "raw" / "sr.csv.gz").read_bytes() == (
        bucket / "sr.csv.gz"
    ).read_bytes()


def test_new_files_in_a_folder_are_noticed(
    repository: Repository, bucket: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(bucket, source)
    repository.set_params({"download.source": str(source)})
    refused = repository.try_run("dvc", "repro", "download")
    assert f"watch: set it to {str(source)!r}" in refused.stderr
    repository.set_params({"download.watch": str(source)})
    repository.run("dvc", "repro", "download")
    assert repository.run("dvc", "status", "download") == "Data and pipelines are up to date.\n"
    tiles = source / "images" / "swimming-pool" / "yes"
    first = min(tiles.glob("*.tif"))
    shutil.copy(first, tiles / "W35A_7_58.tif")
    assert "download" in repository.run("dvc", "status", "download")
    repository.run("dvc", "repro", "download")
    assert (repository.root / "raw" / "images" / "swimming-pool" / "yes" / "W35A_7_58.tif").exists()


def test_an_s3_remote_carries_results_to_another_clone(
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
    repository.run("git", "clone", "-q", str(repository.root), str(tmp_path / "other"))
    other = Repository(tmp_path / "other")
    name_remote(other)
    other.run("dvc", "pull")
    for name in ("raw/inventory.csv", "hexes/requests.parquet", "models/model.safetensors"):
        assert (other.root / name).read_bytes() == (repository.root / name).read_bytes()
    assert "up to date" in other.run("dvc", "repro")


@pytest.mark.parametrize("command", [["capetown", "check"], ["python", "-m", "stages.download"]])
def test_missing_data_names_the_command_that_fetches_it(
    repository: Repository, command: list[str]
) -> None:
    shutil.rmtree(repository.root / "data")
    done = repository.try_run(*command)
    assert done.returncode == 1
    assert "dvc pull data.dvc" in done.stderr
    assert "Traceback" not in done.stderr
