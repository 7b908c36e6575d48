"""A training goes on where it stopped."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from capetown.pools.model.architecture import build_model
from capetown.pools.model.devices import to_device
from capetown.pools.training import loop as training
from capetown.pools.training.checkpoints import (
    MONTH,
    fingerprint,
    forget_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from capetown.pools.training.loop import fit
from capetown.pools.training.schedules import Epoch
from tests.pools.training.tiny import CPU, SMALL, equal, fold, settings, train


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    state = {"history": [{"epoch": 0, "phase": "head"}], "best": {"w": torch.ones(2)}, "x": None}
    save_checkpoint(tmp_path / "a", state)
    found = load_checkpoint(tmp_path / "a")
    assert found is not None
    assert found["history"] == state["history"]
    assert torch.equal(found["best"]["w"], torch.ones(2))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["last.pt"]


def test_a_checkpoint_that_could_not_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, {"epoch": 1})

    def cut(state: object, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, {"epoch": 2})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path) == {"epoch": 1}


def test_a_finished_training_takes_abandoned_checkpoints_with_it(tmp_path: Path) -> None:
    for name in ("mine", "abandoned", "recent", "other"):
        save_checkpoint(tmp_path / name, {})
    (tmp_path / "other" / "last.pt").rename(tmp_path / "other" / "journal")
    (tmp_path / "file").touch()
    for old in ("abandoned/last.pt", "other/journal", "file"):
        os.utime(tmp_path / old, (0, time.time() - MONTH - 60))
    forget_checkpoint(tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "other", "recent"]
    forget_checkpoint(tmp_path / "never made")


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    _, expected = train(tmp_path / "whole")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "last.pt").write_bytes(b"damaged")
    assert train(tmp_path / "damaged")[1] == expected


def test_whatever_shapes_a_training_shapes_its_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"data": ["a"], "settings": {"epochs": 1}}
    assert fingerprint(**inputs) == fingerprint(**inputs)
    assert fingerprint(**inputs) != fingerprint(data=["b"], settings={"epochs": 1})
    assert fingerprint(**inputs) != fingerprint(data=["a"], settings={"epochs": 2})
    before = fingerprint(**inputs)
    for module in ("capetown.another", "stages.another", "__main__"):
        with monkeypatch.context() as changed:
            changed.setitem(sys.modules, module, training)
            assert fingerprint(**inputs) != before, module


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_a_training_goes_on_from_any_epoch_as_if_never_interrupted(
    done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = settings(head_epochs=2, epochs=2)
    model, expected = train(tmp_path / "whole", how=how)

    class StopError(Exception):
        pass

    def stop_after(row: Epoch) -> None:
        if row.epoch == done - 1:
            raise StopError

    folder = tmp_path / "cut"
    start = to_device(build_model(SMALL, image_size=64, pretrained=False, seed=1), CPU)
    with pytest.raises(StopError):
        fit(
            start, fold(12), fold(8, seed=9), backbone=SMALL, settings=how, seed=1,
            checkpoints=folder, on_epoch=stop_after,
        )  # fmt: skip
    torch.rand(3)  # whatever happens to torch's generator in between
    again, history = train(folder, how=how)
    assert history == expected
    assert equal(again.state_dict(), model.state_dict())
