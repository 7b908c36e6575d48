"""A run that fails or is killed costs nothing: every out is as it was, and the model predicts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.stages.repository import BACK, Repository

OUTS = ("raw", "hexes", "splits", "models", "metrics", "evaluation", "reports")
# Files of how many half kilobytes a stage may write, so that one of its outs does not fit.
FITS = {"transform": 8, "split": 0, "train": 4000, "evaluate": 8, "report": 8}

# A kind of device that this machine has not.
ABSENT = "cuda" if sys.platform == "darwin" else "mps"


@pytest.fixture(scope="module")
def shared(reproduced: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One for all tests here, since none of them may change it."""
    return reproduced.copy(tmp_path_factory.mktemp("failing") / "repository")


@pytest.fixture
def victim(shared: Repository) -> Iterator[Repository]:
    """A repository of which all but params.yaml must be the same after the test."""
    before = shared.files(*OUTS)
    lock = (shared.root / "dvc.lock").read_bytes()
    yield shared
    assert shared.files(*OUTS) == before
    assert (shared.root / "dvc.lock").read_bytes() == lock
    assert shared.run("git", "status", "--porcelain") in ("", " M params.yaml\n")
    assert shared.run("git", "branch", "--show-current") == "main\n"
    shared.run("git", "checkout", "-q", "params.yaml")


def without_killed(stderr: str) -> list[str]:
    """Lines without DVC's remark that an earlier process was killed, as some tests here do."""
    return [line for line in stderr.splitlines() if not line.startswith("WARNING: Process ")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("split.valid=0.25 model=caformer", "caformer_s36.sail_in22k_ft_in1k_384 are not cached"),
        (f"split.valid=0.25 device={ABSENT}", f"device: this machine has no {ABSENT}"),
        ("transform.csv=true backbones.lite.architecture=lite", "has no architecture 'lite'"),
    ],
)
def test_what_can_be_known_is_known_first(
    victim: Repository, tmp_path: Path, settings: str, said: str
) -> None:
    options = [word for setting in settings.split() for word in ("-S", setting)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = victim.try_run("dvc", "exp", "run", *options, **offline)
    assert done.returncode != 0
    first = without_killed(done.stderr)[0]
    assert first.startswith("error: ")
    assert said in first
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["dvc exp run -S model=resnet50", "dvc repro"])
def test_a_mistyped_model_is_answered_with_the_known_ones(victim: Repository, command: str) -> None:
    if command == "dvc repro":
        victim.set_params({"model": "resnet50"})
    done = victim.try_run(*command.split())
    assert done.returncode != 0
    known = "model: 'resnet50' is not one of the backbones: lite, convnext_tiny"
    assert without_killed(done.stderr)[0].startswith(f"error: params.yaml: {known}")


@pytest.mark.parametrize("stage", FITS)
def test_a_full_disk(victim: Repository, tmp_path: Path, stage: str) -> None:
    """DVC runs a stage by the user's shell; this one lets it write small files alone."""
    shell = tmp_path / "sh"
    shell.write_text(f'#!/bin/sh\nulimit -f {FITS[stage]}\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    done = victim.try_run("dvc", "repro", "--force", "--single-item", stage, SHELL=str(shell))
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, done.stderr
    assert "File too large" in said[0]
    assert "Traceback" not in done.stderr


def start_until_it_writes(victim: Repository, *command: str) -> subprocess.Popen[str]:
    """Start a command, and wait until a stage of it has made the folder that it writes to."""
    logs = victim.root / "logs"
    before = set(logs.iterdir())
    running = victim.start(*command)
    while running.poll() is None and not any(p.is_dir() for p in set(logs.iterdir()) - before):
        time.sleep(0.01)
    return running


@pytest.mark.parametrize(
    ("how", "command"),
    [
        (signal.SIGKILL, "dvc repro --force --single-item train"),
        (signal.SIGINT, "dvc exp run -S train.epochs=2"),
        (signal.SIGKILL, "dvc repro --force --single-item evaluate"),
    ],
)
def test_killed_while_it_writes(victim: Repository, how: signal.Signals, command: str) -> None:
    running = start_until_it_writes(victim, *command.split())
    os.killpg(running.pid, how)
    said, _ = running.communicate()
    assert running.returncode != 0
    assert "Traceback" not in said
    if how is signal.SIGINT:
        assert "interrupted; run the same command again to go on" in said


def test_killed_with_dvc_itself_git_finds_its_branch_again(victim: Repository) -> None:
    """An experiment runs on a detached head; only DVC puts it back."""
    command = ["dvc", "exp", "run", "-S", "transform.csv=true", "transform"]
    # Not before its stage writes: while DVC itself does, it holds a lock of Git's.
    running = start_until_it_writes(victim, *command)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert victim.run("git", "branch", "--show-current") == ""
    victim.run("git", "switch", "main")
    victim.run("sh", "-c", BACK)
    assert victim.run("git", "status", "--porcelain") == ""


def test_a_tile_that_is_damaged_later(victim: Repository) -> None:
    # One of those that it draws: of the others it has the pixels already.
    drawn = pd.read_csv(victim.root / "evaluation" / "samples.csv")
    tile = victim.root / "raw" / drawn["path"][0]
    good = tile.read_bytes()
    tile.write_bytes(good[:100])
    done = victim.try_run("dvc", "repro", "--force", "--single-item", "evaluate")
    tile.write_bytes(good)
    assert done.returncode != 0
    assert f"{tile.relative_to(victim.root)}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_after_all_that_nothing_is_lost(victim: Repository, tmp_path: Path) -> None:
    tiles = str(next((victim.root / "data").rglob("*.tif")))
    victim.run("capetown", "predict", tiles, "--out", str(tmp_path / "predictions.csv"))
    # DVC may also report the lock of the process that was killed.
    assert "Data and pipelines are up to date.\n" in victim.run("dvc", "status")
    left = {p.name for p in (victim.root / "logs").iterdir() if p.is_dir()}
    assert len(left) <= 2, "what was killed is removed by the next run of its stage"
