"""The inference engine, whose logits equal PyTorch's."""

import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import ModelManifest, save_model
from capetown.pools.prediction import engine
from capetown.pools.prediction.engine import Graph, compile_graph, fastest_engine, ready_model
from tests import ROOT
from tests.pools.training.tiny import card_of, outspoken_model

ARCHITECTURE = "test_efficientnet.r160_in1k"
# 37 is not a multiple of the batch size.
PIXELS = np.random.default_rng(1).integers(0, 256, (37, 64, 64, 3), dtype=np.uint8)


def card(tta: bool, architecture: str = ARCHITECTURE) -> ModelManifest:
    return card_of(architecture).model_copy(
        update={"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2], "tta": tta}
    )


def by_torch(model: nn.Module, card: ModelManifest) -> np.ndarray:
    return predict_logits(model, PIXELS, mean=card.mean, std=card.std, tta=card.tta)


@pytest.mark.parametrize(
    ("architecture", "tta"),
    [(ARCHITECTURE, False), (ARCHITECTURE, True), ("test_vit.r160_in1k", False)],
)
def test_openvino_equals_pytorch(
    architecture: str, tta: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "capetown")
    model, its = outspoken_model(architecture), card(tta, architecture)
    answer = fastest_engine(model, its, 1)
    assert "inference by OpenVINO" in caplog.text
    expected = by_torch(model, its)
    assert answer(PIXELS) == pytest.approx(expected, abs=4e-4)
    assert answer(PIXELS[5:6]) == pytest.approx(expected[5:6], abs=4e-4)
    assert answer(PIXELS[:0]).shape == (0,)


def test_concurrent_threads_get_equal_logits() -> None:
    model, its = outspoken_model(ARCHITECTURE), card(tta=True)
    expected = fastest_engine(model, its, 1)(PIXELS)
    answer = fastest_engine(model, its, 3)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(answer, [PIXELS] * 6):
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("tta", [True, False])
def test_a_graph_is_made_of_one_tile_without_gradients(tta: bool) -> None:
    """Tracing keeps all activations, and gradients would keep them longer."""
    model, its, seen = outspoken_model(ARCHITECTURE), card(tta), []
    model.register_forward_pre_hook(
        lambda _, given: seen.append((len(given[0]), torch.is_grad_enabled()))
    )
    compile_graph(Graph(model, its).eval(), its.image_size, 1)
    assert seen == [(8 if tta else 1, False)]


def test_only_a_compiled_model_waits_for_openvino(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "capetown")
    save_model(tmp_path, outspoken_model(ARCHITECTURE), card(tta=False))
    engines = [
        ready_model(str(tmp_path), "a digest", "cpu", compiled=compiled).engine
        for compiled in (False, True)
    ]
    assert [isinstance(engine, partial) for engine in engines] == [True, False]
    assert "OpenVINO" in "".join(caplog.messages)
    assert engines[0](PIXELS) == pytest.approx(engines[1](PIXELS), abs=4e-4)


def unknown(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no such\noperator")


@pytest.mark.parametrize(
    ("patched", "replacement", "said"),
    [
        ("find_spec", lambda _: None, r"capetown\[fast\]"),
        ("compile_graph", unknown, r"\(no such operator\)"),
        ("compile_graph", lambda *_: lambda pixels: np.full(len(pixels), 1e3), "differ by [23]e"),
    ],
)
def test_pytorch_is_the_fallback_and_the_log_says_why(
    patched: str, replacement: Any, said: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "capetown")
    monkeypatch.setattr(engine, patched, replacement)
    model, its = outspoken_model(ARCHITECTURE), card(tta=False)
    answer = fastest_engine(model, its, 1)
    assert isinstance(answer, partial)
    assert np.array_equal(answer(PIXELS), by_torch(model, its))
    [line] = caplog.messages
    assert line.startswith("inference by PyTorch")
    assert re.search(said, line)
    assert "\n" not in line


TELEMETRY = """
import sys
sent = []
names = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
sys.addaudithook(lambda event, args: sent.append((event, args)) if event in names else None)
from tests.pools.prediction.test_engine import ARCHITECTURE, card, fastest_engine, outspoken_model
fastest_engine(outspoken_model(ARCHITECTURE), card(tta=False), 1)
assert "openvino" in sys.modules
print(sent)
"""


def test_openvino_sends_no_telemetry(tmp_path: Path) -> None:
    """In a new process, since the import alone sends telemetry and stores an identifier."""
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", TELEMETRY],
        cwd=ROOT, env={**env, "HOME": str(tmp_path)}, text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
    assert not (tmp_path / "intel").exists()
