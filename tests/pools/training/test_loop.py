"""Two phases of fine-tuning: what is trained, when it stops, and what goes wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from capetown.errors import CapetownError
from capetown.params import Tiles
from capetown.pools.model.backbones import build_model
from capetown.pools.model.devices import place
from capetown.pools.model.evidence import evidence
from capetown.pools.model.inference import predict_logits
from capetown.pools.training import loop as training
from capetown.pools.training.card import make_card
from capetown.pools.training.checkpoints import (
    load_checkpoint,
)
from capetown.pools.training.schedules import (
    best_epoch,
    phases,
)
from tests.pools import USUAL
from tests.pools.training.tiny import (
    CPU,
    PARAMS,
    SMALL,
    STILL,
    backbone_parameters,
    card_of,
    equal,
    fold,
    settings,
    train,
)


@pytest.mark.parametrize("architecture", ["test_efficientnet.r160_in1k", "test_convnext.r160_in1k"])
def test_phase_one_changes_the_head_alone_and_phase_two_the_backbone(
    architecture: str, tmp_path: Path
) -> None:
    backbone = SMALL.model_copy(update={"architecture": architecture})
    before = build_model(backbone, image_size=64, pretrained=False, seed=1)
    start = {name: t.clone() for name, t in before.state_dict().items()}
    outside = [name for name, _ in backbone_parameters(before)]
    inside = [name for name in start if name not in outside]

    frozen, _ = train(tmp_path / "head", backbone, settings(regime="head"))
    after = frozen.state_dict()
    # Running statistics of batch normalisation are among them.
    assert all(torch.equal(start[name], after[name]) for name in outside)
    assert any("running_mean" in name for name in outside) == ("efficientnet" in architecture)
    assert not any(torch.equal(start[name], after[name]) for name in inside)

    full, history = train(tmp_path / "full", backbone, settings(ema_decay=0.0, patience=9))
    best = best_epoch(history)
    state = load_checkpoint(tmp_path / "full")
    assert state is not None
    moved = state["training"]["model"]
    assert [row.phase for row in history] == ["head", "full", "full"]
    trainable = [name for name, p in full.named_parameters()]
    assert not any(torch.equal(start[name], moved[name]) for name in trainable)
    kept = full.state_dict()
    assert equal(kept, start) is False
    assert equal(kept, state["best"])
    assert best.epoch == 2 or not equal(kept, moved)


# One backbone per family: the others of a family have the same kinds of layers.
FAMILIES = {b.architecture.split("_")[0]: name for name, b in reversed(PARAMS.backbones.items())}


@pytest.mark.parametrize("name", FAMILIES.values())
def test_loss_falls_on_a_tiny_set(name: str, tmp_path: Path) -> None:
    backbone = PARAMS.backbones[name].model_copy(
        update={"batch_size": 8, "learning_rate": 0.001 if name.startswith("lite") else 0.0003}
    )
    how = settings(head_epochs=0, epochs=6, augment=STILL, ema_decay=0.0, patience=9, warmup=0.3)
    _, history = train(tmp_path, backbone, how, size=32, tiles=8)
    losses = [row.train_loss for row in history]
    assert losses[0] == pytest.approx(np.log(2), abs=0.2)
    assert min(losses[-2:]) < losses[0] - 0.1


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    train(tmp_path, how=settings(ema_decay=0.9))
    state = load_checkpoint(tmp_path)
    assert state is not None
    average, model = state["training"]["average"], state["training"]["model"]
    weight = "conv_stem.weight"
    start = build_model(SMALL, image_size=64, pretrained=False, seed=1).state_dict()[weight]
    assert 0 < (average[weight] - model[weight]).norm() < (start - model[weight]).norm()


def test_infinite_bounds_stay_in_the_average() -> None:
    """As Gemma's layers have them; infinity less infinity is no number."""
    how = settings(head_epochs=0)
    model = place(build_model(SMALL, image_size=64, pretrained=False, seed=1), CPU)
    model.register_buffer("bound", torch.tensor(-torch.inf))
    [phase] = phases(how, SMALL)
    steps = training.Training(model, phase, fold(), SMALL, how)
    steps.run_epoch(0, seed=1)
    assert steps.judged is not model
    assert steps.judged.bound == -torch.inf


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_trains_alike_and_its_scaler_is_in_the_checkpoint(
    half: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = train(tmp_path / "whole")
    monkeypatch.setattr(training, "half_precision", lambda _: half)
    model, history = train(tmp_path / "half")
    losses, wholes = (np.array([(r.train_loss, r.valid_loss) for r in h]) for h in (history, whole))
    assert (losses != wholes).any()
    assert losses == pytest.approx(wholes, abs=0.02)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    state = load_checkpoint(tmp_path / "half")
    assert state is not None
    scaler = state["training"]["scaler"]
    assert (scaler.get("scale"), "_growth_tracker" in scaler) == (
        (65536.0, True) if half is torch.float16 else (None, False)
    )


def test_equal_seeds_train_equal_models_and_others_do_not(tmp_path: Path) -> None:
    one, first = train(tmp_path / "1")
    other, again = train(tmp_path / "2")
    assert first == again
    assert equal(one.state_dict(), other.state_dict())
    _, different = train(tmp_path / "3", seed=2)
    assert different != first


def test_the_card_says_how_to_use_the_model(tmp_path: Path) -> None:
    model, _ = train(tmp_path)
    rule = Tiles(bands=[3, 2, 1], scale=[0, 4095])
    card = make_card(model, fold(), fold(8, seed=9), SMALL, settings(tta=True), rule, USUAL)
    assert card.tta
    assert (card.tiles, card.usual) == (rule, USUAL)
    assert (card.architecture, card.image_size) == (SMALL.architecture, 64)
    assert card.classes == ["no", "yes"]
    assert 0 < card.threshold < 1
    assert sorted(card.packages) == ["capetown", "timm", "torch"]
    assert "+" not in "".join(card.packages.values())


def test_a_loss_that_is_no_number_names_the_epoch_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    wild = SMALL.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(CapetownError, match=r"the loss is (nan|inf) in epoch 2: lower") as caught:
        train(tmp_path, wild)
    assert "\n" not in str(caught.value)
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert [row["epoch"] for row in state["history"]] == [0]
    assert all(t.isfinite().all() for t in state["best"].values())


def test_too_little_memory_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(training, "augment", full)
    with pytest.raises(
        CapetownError, match=r"batches of 4 tiles: lower the .*batch_size"
    ) as caught:
        train(tmp_path)
    assert "train.image_size" in str(caught.value)

    model = build_model(SMALL, image_size=64, pretrained=False, seed=0)
    card, pixels = card_of(SMALL.architecture), fold(1).pixels
    monkeypatch.setattr("capetown.pools.model.inference.normalise", full)
    monkeypatch.setattr("capetown.pools.model.evidence.normalise", full)
    monkeypatch.setattr(nn.Module, "to", full)
    for work in (
        lambda: predict_logits(model, pixels, mean=card.mean, std=card.std),
        lambda: evidence(model, card, pixels, towards_yes=True),
        lambda: place(model, CPU),
    ):
        with pytest.raises(CapetownError, match=r"^out of memory on the device .*device=cpu\.$"):
            work()


def test_compile_trains_the_same_weights_under_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, history = train(tmp_path / "plain")
    calls = []

    def compile_quickly(model: nn.Module) -> Any:
        calls.append(model)
        return fast(model, backend="aot_eager")

    fast = torch.compile
    monkeypatch.setattr(torch, "compile", compile_quickly)
    same, again = train(tmp_path / "compiled", how=settings(compile=True))
    assert len(calls) == 2  # once a phase
    assert [row.train_loss for row in again] == pytest.approx(
        [row.train_loss for row in history], abs=1e-4
    )
    start, found = model.state_dict(), same.state_dict()
    assert list(found) == list(start)
    assert all(torch.allclose(found[name], start[name], atol=1e-3) for name in start)


def test_compile_without_a_compiler_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with (
        config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(
            CapetownError, match=r"train\.compile: .*No working C\+\+ compiler"
        ) as caught,
    ):
        train(tmp_path, how=settings(compile=True))
    assert str(caught.value).endswith(
        "install a C++ compiler, such as g++, or set train.compile=false."
    )
    assert "\n" not in str(caught.value)
