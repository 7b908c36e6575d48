"""Devices, and the progress bar."""

import io
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from capetown.errors import CapetownError
from capetown.pools.model.devices import choose_device, half_precision
from capetown.pools.training import loop as training
from capetown.pools.training.fit_one import fit_one
from tests.pools.training.tiny import CPU, config, fold, settings, train


def test_a_missing_device_is_refused() -> None:
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available():
        with pytest.raises(CapetownError) as error:
            choose_device("cuda")
        assert str(error.value) == ("device: this machine has no cuda; set device to auto or cpu")
    assert half_precision(CPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_and_cpu_agree() -> None:
    losses = []
    for device in ("cpu", "cuda"):
        how = config(how=settings(amp=False)).model_copy(update={"device": device})
        fitted = fit_one(how, fold(), fold(8, seed=9), checkpoints=None)
        losses.append([row.train_loss for row in fitted.history])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_a_terminal_shows_speed_and_remaining_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = training.Training.train_step

    def slowly(*arguments: Any, **named: Any) -> Tensor:
        time.sleep(0.11)
        return train_step(*arguments, **named)

    monkeypatch.setattr(training.Training, "train_step", slowly)
    for is_terminal in (True, False):
        said = io.StringIO()
        monkeypatch.setattr(said, "isatty", lambda shown=is_terminal: shown)
        monkeypatch.setattr(sys, "stderr", said)
        train(tmp_path / str(is_terminal), how=settings(epochs=1))
        shown = re.findall(
            r"epoch 2, full: +67%.* 8/12 \[\d\d:\d\d<\d\d:\d\d, .*images/s\]", said.getvalue()
        )
        assert len(shown) == is_terminal
