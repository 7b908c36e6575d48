"""Two phases of fine-tuning: the weights that change, and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from capetown.errors import CapetownError
from capetown.params import BandRendering
from capetown.pools.model.architecture import build_model, input_config
from capetown.pools.model.devices import to_device
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.saliency import saliency_maps
from capetown.pools.training import loop as training
from capetown.pools.training.calibrate import calibrate
from capetown.pools.training.schedules import best_epoch, phases
from tests.pools import TYPICAL
from tests.pools.training.tiny import (
    CPU,
    PARAMS,
    SMALL,
    STILL,
    backbone_parameters,
    card_of,
    checkpoint_in,
    config,
    equal,
    fold,
    settings,
    train,
)


@pytest.mark.parametrize("architecture", ["test_efficientnet.r160_in1k", "test_convnext.r160_in1k"])
def test_phase_one_changes_only_the_head_and_phase_two_all_layers(
    architecture: str, tmp_path: Path
) -> None:
    backbone = SMALL.model_copy(update={"architecture": architecture})
    before = build_model(backbone, image_size=64, pretrained=False, seed=1)
    start = {name: t.clone() for name, t in before.state_dict().items()}
    outside = [name for name, _ in backbone_parameters(before)]
    inside = [name for name in start if name not in outside]

    frozen = train(tmp_path / "head", backbone, settings(regime="head"))
    after = frozen.model.state_dict()
    # Running statistics of batch normalisation are among them.
    assert all(torch.equal(start[name], after[name]) for name in outside)
    assert any("running_mean" in name for name in outside) == ("efficientnet" in architecture)
    assert not any(torch.equal(start[name], after[name]) for name in inside)

    how = settings(ema_decay=0.0, patience=9)
    full, history, _ = train(tmp_path / "full", backbone, how)
    best = best_epoch(history)
    state = checkpoint_in(tmp_path / "full")
    moved = state["training"]["model"]
    assert [row.phase for row in history] == ["head", "full", "full"]
    trainable = [name for name, p in full.named_parameters()]
    assert not any(torch.equal(start[name], moved[name]) for name in trainable)
    kept = full.state_dict()
    assert equal(kept, start) is False
    assert equal(kept, state["best"])
    assert best.epoch == 2 or not equal(kept, moved)


# The first one of each family, which its others share their layers with.
FAMILIES = {b.architecture.split("_")[0]: name for name, b in reversed(PARAMS.backbones.items())}


@pytest.mark.parametrize("name", FAMILIES.values())
def test_loss_falls_on_a_tiny_set(name: str, tmp_path: Path) -> None:
    backbone = PARAMS.backbones[name].model_copy(
        update={"batch_size": 8, "learning_rate": 0.001 if name.startswith("lite") else 0.0003}
    )
    how = settings(head_epochs=0, epochs=6, augment=STILL, ema_decay=0.0, patience=9, warmup=0.3)
    fitted = train(tmp_path, backbone, how, size=32, tiles=8)
    losses = [row.train_loss for row in fitted.history]
    assert losses[0] == pytest.approx(np.log(2), abs=0.2)
    assert min(losses[-2:]) < losses[0] - 0.1


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    train(tmp_path, how=settings(ema_decay=0.9))
    state = checkpoint_in(tmp_path)
    average, model = state["training"]["average"], state["training"]["model"]
    weight = "conv_stem.weight"
    start = build_model(SMALL, image_size=64, pretrained=False, seed=1).state_dict()[weight]
    assert 0 < (average[weight] - model[weight]).norm() < (start - model[weight]).norm()


def test_infinite_bounds_stay_in_the_average() -> None:
    """Gemma's layers have them. Infinity minus infinity is not a number."""
    how = settings(head_epochs=0)
    model = to_device(build_model(SMALL, image_size=64, pretrained=False, seed=1), CPU)
    model.register_buffer("bound", torch.tensor(-torch.inf))
    [phase] = phases(how, SMALL)
    steps = training.Training(model, phase, fold(), SMALL, how)
    steps.run_epoch(0, seed=1)
    assert steps.candidate is not model
    assert steps.candidate.bound == -torch.inf


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_trains_alike_and_its_scaler_is_in_the_checkpoint(
    half: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole").history
    monkeypatch.setattr(training, "half_precision", lambda _: half)
    model, history, _ = train(tmp_path / "half")
    losses, wholes = (np.array([(r.train_loss, r.valid_loss) for r in h]) for h in (history, whole))
    assert (losses != wholes).any()
    assert losses == pytest.approx(wholes, abs=0.02)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    scaler = checkpoint_in(tmp_path / "half")["training"]["scaler"]
    assert (scaler.get("scale"), "_growth_tracker" in scaler) == (
        (65536.0, True) if half is torch.float16 else (None, False)
    )


def test_equal_seeds_train_equal_models_and_others_do_not(tmp_path: Path) -> None:
    one, other = (train(tmp_path / name) for name in "12")
    assert one.history == other.history
    assert equal(one.model.state_dict(), other.model.state_dict())
    assert train(tmp_path / "3", seed=2).history != one.history


def test_the_manifest_describes_the_model(tmp_path: Path) -> None:
    how = config(how=settings(tta=True))
    rendering = BandRendering(bands=[3, 2, 1], scale=[0, 4095])
    model = train(tmp_path).model
    manifest = calibrate(model, fold(), fold(8, seed=9), how, rendering, TYPICAL, 640)
    assert manifest.tta
    assert (manifest.tiles, manifest.typical, manifest.reduced_to) == (rendering, TYPICAL, 640)
    assert (manifest.architecture, manifest.image_size) == (SMALL.architecture, 64)
    assert 0 < manifest.threshold < 1
    assert sorted(manifest.packages) == ["capetown", "timm", "torch"]
    assert "+" not in "".join(manifest.packages.values())


@pytest.mark.parametrize("name", PARAMS.backbones)
def test_a_configs_interpolation_is_that_of_the_model(name: str) -> None:
    backbone = PARAMS.backbones[name]
    model = build_model(backbone, image_size=64, pretrained=False, seed=0)
    assert config(backbone).interpolation == input_config(model)["interpolation"]
    assert config(backbone, settings(interpolation="box")).interpolation == "box"


def test_an_infinite_loss_names_the_epoch_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    wild = SMALL.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(CapetownError, match=r"the loss is (nan|inf)") as error:
        train(tmp_path, wild)
    assert error.value.where == "epoch 2"
    assert "learning_rate" in error.value.fix
    state = checkpoint_in(tmp_path)
    assert [row["epoch"] for row in state["history"]] == [0]
    assert all(t.isfinite().all() for t in state["best"].values())


def test_too_little_memory_is_an_error_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(training, "augment", full)
    with pytest.raises(CapetownError, match="batches of 4 tiles") as error:
        train(tmp_path)
    assert "batch_size" in error.value.fix
    assert "train.image_size" in error.value.fix

    model = build_model(SMALL, image_size=64, pretrained=False, seed=0)
    card, pixels = card_of(SMALL.architecture), fold(1).pixels
    monkeypatch.setattr("capetown.pools.model.inference.normalise", full)
    monkeypatch.setattr("capetown.pools.model.saliency.normalise", full)
    monkeypatch.setattr(nn.Module, "to", full)
    for work in (
        lambda: predict_logits(model, pixels, mean=card.mean, std=card.std),
        lambda: saliency_maps(model, card, pixels, towards_yes=True),
        lambda: to_device(model, CPU),
    ):
        with pytest.raises(CapetownError, match="out of memory on the device") as error:
            work()
        assert "device=cpu" in error.value.fix
