"""Repositories for the tests of the pipeline, each made once."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests import ROOT
from tests.stages.repository import TINY, Repository
from tools.synthetic import make_bucket


def once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Repository:
    """Make a repository in the first process of pytest-xdist that needs it, for all processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root, made = shared / name / "repository", shared / name / "made"
    with FileLock(shared / f"{name}.lock"):
        if not made.exists():
            make(root)
            made.touch()
    return Repository(root)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project's files in this checkout and a tiny bucket, in one commit."""
    return once(tmp_path_factory, "fresh", make_fresh)


def make_fresh(root: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, text=True, capture_output=True, check=True,
    ).stdout  # fmt: skip
    skipped = (".dvc/embedded/", "metrics/", "reports/", "dvc.lock", "data.dvc")
    plots = "metrics/dvc.yaml"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and (name == plots or not name.startswith(skipped)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    repository = Repository(root)
    repository.set_params(TINY)
    make_bucket(root / "data", requests=400, tiles=160, seed=1, tile_side=64)
    repository.run("git", "init", "-q", "-b", "main")
    repository.run("dvc", "add", "-q", "--no-relink", "data")
    repository.run("dvc", "push", "-q", "-r", "embedded", "data.dvc")
    pointer = yaml.safe_load((root / "data.dvc").read_text())
    pointer["outs"][0] |= {"remote": "embedded", "push": False}
    (root / "data.dvc").write_text(yaml.safe_dump(pointer))
    repository.run("git", "add", ".")
    repository.run("git", "commit", "-q", "-m", "A tiny bucket")


@pytest.fixture(scope="session")
def reproduced(fresh: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone of `fresh`, after `dvc pull`, `dvc repro` and a commit."""

    def make(root: Path) -> None:
        repository = fresh.clone(root)
        repository.run("dvc", "pull", "-q", "data.dvc")
        repository.run("dvc", "repro")
        repository.run("git", "add", ".")
        repository.run("git", "commit", "-q", "-m", "Reproduce")

    return once(tmp_path_factory, "reproduced", make)


@pytest.fixture
def repository(reproduced: Repository, tmp_path: Path) -> Repository:
    return reproduced.copy(tmp_path / "repository")
