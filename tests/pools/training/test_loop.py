"""Two phases of fine-tuning: the weights that change, devices, progress and errors."""

import io
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from capetown.errors import CapetownError
from capetown.params import BandRendering
from capetown.pools.model import inference, saliency
from capetown.pools.model.architecture import build_model, input_config
from capetown.pools.model.devices import to_device
from capetown.pools.model.inference import predict_logits
from capetown.pools.training import loop as training
from capetown.pools.training.calibrate import calibrate
from capetown.pools.training.fit_one import fit_one
from capetown.pools.training.schedules import best_epoch, phases
from tests.pools import TYPICAL
from tests.pools.training import tiny
from tests.pools.training.tiny import CPU, PARAMS, SMALL, STILL, equal, fold, settings, train


@pytest.mark.parametrize("architecture", ["test_efficientnet.r160_in1k", "test_convnext.r160_in1k"])
def test_phase_one_changes_only_the_head_and_phase_two_all_layers(
    architecture: str, tmp_path: Path
) -> None:
    backbone = SMALL.model_copy(update={"architecture": architecture})
    model = build_model(backbone, image_size=64, pretrained=False, seed=1)
    start, outside = model.state_dict(), {name for name, _ in tiny.backbone_parameters(model)}

    def changed(after: dict[str, Tensor]) -> set[str]:
        return {name for name in start if not torch.equal(start[name], after[name])}

    frozen = train(tmp_path / "head", backbone, settings(regime="head"))
    # Running statistics of batch normalisation lie outside the head.
    assert any("running_mean" in name for name in outside) == ("efficientnet" in architecture)
    assert changed(frozen.model.state_dict()) == start.keys() - outside

    how = settings(ema_decay=0.0, patience=9)
    full, history, _ = train(tmp_path / "full", backbone, how)
    state = tiny.checkpoint_in(tmp_path / "full")
    moved, kept = state["training"]["model"], full.state_dict()
    assert {name for name, _ in full.named_parameters()} <= changed(moved)
    assert equal(kept, state["best"])
    assert best_epoch(history).epoch == 2 or not equal(kept, moved)


# One backbone per family: the others of a family have the same kinds of layers.
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
    state = tiny.checkpoint_in(tmp_path)
    average, now = (state["training"][of]["conv_stem.weight"] for of in ("average", "model"))
    model = build_model(SMALL, image_size=64, pretrained=False, seed=1)
    start = model.get_parameter("conv_stem.weight")
    assert 0 < (average - now).norm() < (start - now).norm()


def test_infinite_bounds_stay_in_the_average() -> None:
    """Gemma's layers have them. Infinity minus infinity is not a number."""
    how = settings(head_epochs=0)
    model = to_device(build_model(SMALL, image_size=64, pretrained=False, seed=1), CPU)
    model.register_buffer("bound", torch.tensor(-torch.inf))
    steps = training.Training(model, phases(how, SMALL)[0], fold(), SMALL, how)
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
    scaler = tiny.checkpoint_in(tmp_path / "half")["training"]["scaler"]
    assert scaler.get("scale") == (65536 if half is torch.float16 else None)


def test_equal_seeds_train_equal_models_and_others_do_not(tmp_path: Path) -> None:
    one, same, other = (train(tmp_path / str(n), seed=seed) for n, seed in enumerate((1, 1, 2)))
    assert one.history == same.history != other.history
    assert equal(one.model.state_dict(), same.model.state_dict())


def test_the_manifest_describes_the_model() -> None:
    how = tiny.config(how=settings(tta=True))
    rendering = BandRendering(bands=[3, 2, 1], scale=[0, 4095])
    model = build_model(SMALL, image_size=64, pretrained=False, seed=1)
    manifest = calibrate(model, fold(), fold(8, seed=9), how, rendering, TYPICAL, 640)
    assert (manifest.tta, manifest.reduced_to) == (True, 640)
    assert (manifest.tiles, manifest.typical) == (rendering, TYPICAL)
    assert "+" not in "".join(manifest.packages.values())


@pytest.mark.parametrize("name", PARAMS.backbones)
def test_a_configs_interpolation_is_that_of_the_model(name: str) -> None:
    backbone = PARAMS.backbones[name]
    model = build_model(backbone, image_size=64, pretrained=False, seed=0)
    assert tiny.config(backbone).interpolation == input_config(model)["interpolation"]
    assert tiny.config(backbone, settings(interpolation="box")).interpolation == "box"


def test_an_infinite_loss_names_the_epoch_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    wild = SMALL.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(CapetownError, match=r"the loss is (nan|inf)") as error:
        train(tmp_path, wild)
    assert error.value.where == "epoch 2"
    assert "learning_rate" in error.value.fix
    state = tiny.checkpoint_in(tmp_path)
    assert [row["epoch"] for row in state["history"]] == [0]
    assert all(t.isfinite().all() for t in state["best"].values())


def test_too_little_memory_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    model = build_model(SMALL, image_size=64, pretrained=False, seed=0)
    card, pixels = tiny.card_of(SMALL.architecture), fold(1).pixels
    explain = partial(saliency.saliency_maps, model, card, pixels, towards_yes=True)
    predict = partial(predict_logits, model, pixels, mean=card.mean, std=card.std)
    works: list[tuple[object, str, Callable[[], object], str]] = [
        (training, "augment", partial(train, tmp_path), "batch_size"),
        (inference, "normalise", predict, "train.image_size"),
        (saliency, "normalise", explain, "train.image_size"),
        (nn.Module, "to", partial(to_device, model, CPU), "smaller model"),
    ]
    for owner, name, work, remedy in works:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            with pytest.raises(CapetownError, match="out of memory on the device") as error:
                work()
        assert remedy in error.value.fix


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_and_cpu_agree() -> None:
    how = tiny.config(how=settings(amp=False))
    losses = []
    for device in ("cpu", "cuda"):
        on = how.model_copy(update={"device": device})
        history = fit_one(on, fold(), fold(8, seed=9), checkpoints=None).history
        losses.append([row.train_loss for row in history])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_only_a_terminal_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (True, False):
        said = io.StringIO()
        monkeypatch.setattr(said, "isatty", lambda shown=is_terminal: shown)
        monkeypatch.setattr(sys, "stderr", said)
        train(tmp_path / str(is_terminal), how=settings(epochs=1))
        assert ("epoch 2, full:" in said.getvalue()) == is_terminal
