"""A run that fails or is killed changes no out, and the model still predicts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.repository import BACK, Repository

OUTS = ("raw", "hexes", "splits", "models", "metrics", "evaluation", "reports")
# Largest file that a stage may write, in units of 512 bytes. One of its outs is larger.
FITS = {"transform": 8, "split": 0, "train": 4000, "evaluate": 8, "report": 8}

# A device that this machine lacks.
ABSENT = "cuda" if sys.platform == "darwin" else "mps"


@pytest.fixture(scope="module")
def shared(reproduced: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One repository for all tests here. None of them may change it."""
    return reproduced.copy(tmp_path_factory.mktemp("failing") / "repository")


@pytest.fixture
def victim(shared: Repository) -> Iterator[Repository]:
    """A repository in which only params.yaml may differ after the test."""
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


KNOWN = "params.yaml: model: 'resnet50' is not one of the backbones: lite, convnext_tiny"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("dvc exp run -S split.valid=0.25 -S model=caformer", "_ft_in1k_384 are not cached"),
        (f"dvc exp run -S split.valid=0.25 -S device={ABSENT}", f"this machine has no {ABSENT}"),
        ("dvc exp run -S transform.csv=true -S backbones.lite.architecture=lite",
         "has no architecture 'lite'"),
        ("dvc exp run -S model=resnet50", KNOWN),
        ("dvc repro", KNOWN),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_trained_is_refused_before_other_stages_run(
    victim: Repository, tmp_path: Path, command: str, said: str
) -> None:
    if command == "dvc repro":
        victim.set_params({"model": "resnet50"})
    done = victim.try_run(*command.split(), HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode != 0
    first = without_killed(done.stderr)[0]
    assert first.startswith("error: ")
    assert said in first
    assert "Traceback" not in done.stderr
    assert "Running stage 'split'" not in done.stdout
    assert "Running stage 'transform'" not in done.stdout


@pytest.mark.parametrize("stage", FITS)
def test_a_full_disk(victim: Repository, tmp_path: Path, stage: str) -> None:
    """DVC runs a stage in the user's shell. This one limits the size of files."""
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
    """Start a command, and wait until a stage creates the folder that it writes to."""
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
def test_a_stage_is_killed_while_it_writes(
    victim: Repository, how: signal.Signals, command: str
) -> None:
    running = start_until_it_writes(victim, *command.split())
    os.killpg(running.pid, how)
    said, _ = running.communicate()
    assert running.returncode != 0
    assert "Traceback" not in said
    if how is signal.SIGINT:
        assert "interrupted; run the same command again to continue" in said


def test_git_returns_to_its_branch_after_dvc_was_killed(victim: Repository) -> None:
    """An experiment runs on a detached head. DVC undoes that at the end."""
    command = ["dvc", "exp", "run", "-S", "transform.csv=true", "transform"]
    # Until the stage writes, DVC holds a lock of Git.
    running = start_until_it_writes(victim, *command)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert victim.run("git", "branch", "--show-current") == ""
    victim.run("git", "switch", "main")
    victim.run("sh", "-c", BACK)
    assert victim.run("git", "status", "--porcelain") == ""


def test_nothing_is_lost_after_all_these_failures(victim: Repository, tmp_path: Path) -> None:
    tiles = str(next((victim.root / "data").rglob("*.tif")))
    victim.run("capetown", "predict", tiles, "--out", str(tmp_path / "predictions.csv"))
    # DVC may also report the lock of the process that was killed.
    assert "Data and pipelines are up to date.\n" in victim.run("dvc", "status")
    left = {p.name for p in (victim.root / "logs").iterdir() if p.is_dir()}
    assert len(left) <= 2, "a stage did not remove the folder of a killed run"
