"""An interrupted training resumes."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from capetown.pools.training import checkpoints, loop
from capetown.pools.training.schedules import Epoch
from tests.pools.training.tiny import equal, settings, train


def test_a_failed_write_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save_checkpoint(tmp_path, {"epoch": 1})

    def cut(state: object, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_checkpoint(tmp_path, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoints.load_checkpoint(tmp_path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_finished_training_removes_abandoned_checkpoints(tmp_path: Path) -> None:
    for name in ("mine", "abandoned", "recent", "other"):
        checkpoints.save_checkpoint(tmp_path / name, {})
    (tmp_path / "other" / "last.pt").rename(tmp_path / "other" / "journal")
    (tmp_path / "file").touch()
    for old in ("abandoned/last.pt", "other/journal", "file"):
        os.utime(tmp_path / old, (0, time.time() - checkpoints.MONTH - 60))
    checkpoints.forget_checkpoint(tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "other", "recent"]
    checkpoints.forget_checkpoint(tmp_path / "never made")


def test_a_training_with_a_damaged_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    expected = train(tmp_path)
    assert expected.checkpoint is not None
    (expected.checkpoint / "last.pt").write_bytes(b"damaged")
    assert train(tmp_path).history == expected.history


def test_other_inputs_or_code_start_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight_decay: Any = {"how": settings(weight_decay=0.01)}
    runs = [
        train(tmp_path, **changed) for changed in ({}, {"seed": 2}, {"tiles": 10}, weight_decay)
    ]
    assert len({run.checkpoint for run in runs}) == 4
    before = checkpoints.fingerprint("a")
    assert checkpoints.fingerprint("a") == before
    for module in ("capetown.another", "stages.another", "__main__"):
        with monkeypatch.context() as changed:
            changed.setitem(sys.modules, module, loop)
            assert checkpoints.fingerprint("a") != before, module


def test_a_training_resumes_from_any_epoch_as_if_never_interrupted(tmp_path: Path) -> None:
    def keep(row: Epoch) -> None:
        shutil.copytree(tmp_path / "whole", tmp_path / str(row.epoch))

    how = settings(head_epochs=2, epochs=2)
    expected = train(tmp_path / "whole", how=how, on_epoch=keep)
    for epoch in "0123":
        torch.rand(3)  # torch's generator may change in between
        resumed = train(tmp_path / epoch, how=how)
        assert resumed.history == expected.history
        assert equal(resumed.model.state_dict(), expected.model.state_dict())
