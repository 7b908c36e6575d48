"""Devices: what is there, and whether they agree."""

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
from capetown.pools.model.architecture import build_model
from capetown.pools.model.devices import choose_device, half_precision, to_device
from capetown.pools.training import loop as training
from capetown.pools.training.loop import fit
from tests.pools.training.tiny import CPU, SMALL, fold, settings, train


def test_a_device_that_is_not_there_is_one_line() -> None:
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available():
        with pytest.raises(CapetownError, match="device: this machine has no cuda"):
            choose_device("cuda")
    assert half_precision(CPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_and_cpu_agree(tmp_path: Path) -> None:
    histories = []
    for device in ("cpu", "cuda"):
        model = build_model(SMALL, image_size=64, pretrained=False, seed=1)
        history = fit(
            to_device(model, torch.device(device)), fold(), fold(8, seed=9),
            backbone=SMALL, settings=settings(amp=False), seed=1,
            checkpoints=tmp_path / device, on_epoch=lambda row: None,
        )  # fmt: skip
        histories.append([row.train_loss for row in history])
    assert histories[0] == pytest.approx(histories[1], abs=1e-3)


def test_a_terminal_shows_images_a_second_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = training.Training.learn

    def slowly(*arguments: Any, **named: Any) -> Tensor:
        time.sleep(0.11)
        return learn(*arguments, **named)

    monkeypatch.setattr(training.Training, "learn", slowly)
    for is_terminal in (True, False):
        said = io.StringIO()
        monkeypatch.setattr(said, "isatty", lambda shown=is_terminal: shown)
        monkeypatch.setattr(sys, "stderr", said)
        train(tmp_path / str(is_terminal), how=settings(epochs=1))
        shown = re.findall(
            r"epoch 2, full: +67%.* 8/12 \[\d\d:\d\d<\d\d:\d\d, .*images/s\]", said.getvalue()
        )
        assert len(shown) == is_terminal
