"""Both phases train what they should, an interrupted run ends as any other, errors are clear."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.params import Augment, Backbone, Train, load_params
from capetown.pools.evaluation.examples import picture_name
from capetown.pools.evaluation.saliency import contributions, overlay, saliency
from capetown.pools.model.backbones import backbone_parameters, build_model, heads
from capetown.pools.model.devices import choose_device, half_precision, place
from capetown.pools.model.inference import normalise, predict_logits, to_device
from capetown.pools.model.modelfile import ModelCard
from capetown.pools.scoring import METRICS
from capetown.pools.tiles.folds import Fold
from capetown.pools.training import loop as training
from capetown.pools.training import parallel
from capetown.pools.training.augment import augment, draws
from capetown.pools.training.card import make_card
from capetown.pools.training.checkpoints import (
    MONTH,
    fingerprint,
    forget_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from capetown.pools.training.loop import fit
from capetown.pools.training.schedules import (
    Epoch,
    Phase,
    batches,
    best_epoch,
    has_stalled,
    learning_rate,
    phases,
)
from tests import ROOT

PARAMS = load_params(ROOT / "params.yaml")
CPU = torch.device("cpu")
SMALL = Backbone(
    architecture="test_efficientnet.r160_in1k", image_size=64, batch_size=4, learning_rate=0.003
)
STILL = Augment(flips=False, brightness=0, contrast=0, saturation=0, scale=0)


def settings(**changed: object) -> Train:
    return PARAMS.train.model_copy(update={"head_epochs": 1, "epochs": 2, **changed})


def fold(tiles: int = 12, size: int = 64, seed: int = 0) -> Fold:
    """Noise; every other tile has a bright square."""
    pixels = np.random.default_rng(seed).integers(0, 128, (tiles, size, size, 3), dtype=np.uint8)
    labels = np.arange(tiles) % 2
    pixels[labels == 1, size // 4 : size // 2, size // 4 : size // 2] = 255
    paths = [f"{n}.tif" for n in range(tiles)]
    return Fold(paths, np.array(["A"] * tiles), labels, pixels, f"{tiles} {size} {seed}")


def train(
    folder: Path,
    backbone: Backbone = SMALL,
    how: Train | None = None,
    size: int = 64,
    tiles: int = 12,
    seed: int = 1,
) -> tuple[nn.Module, list[Epoch]]:
    model = place(build_model(backbone, image_size=size, pretrained=False, seed=seed), CPU)
    history = fit(
        model, fold(tiles, size), fold(8, size, seed=9),
        backbone=backbone, settings=how or settings(), seed=seed,
        checkpoints=folder, on_epoch=lambda row: None,
    )  # fmt: skip
    return model, history


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# --- what is trained --------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", PARAMS.backbones)
def test_loss_falls_on_a_tiny_set(name: str, tmp_path: Path) -> None:
    backbone = PARAMS.backbones[name].model_copy(
        update={"batch_size": 8, "learning_rate": 0.001 if name == "lite" else 0.0003}
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
    card = make_card(model, fold(), fold(8, seed=9), SMALL.architecture, "balanced_accuracy")
    assert (card.architecture, card.image_size) == (SMALL.architecture, 64)
    assert card.classes == ["no", "yes"]
    assert 0 < card.threshold < 1
    assert sorted(card.packages) == ["capetown", "timm", "torch"]
    assert "+" not in "".join(card.packages.values())


# --- schedules --------------------------------------------------------------------------------


def test_the_phases_share_out_the_epochs() -> None:
    rates = {"head_learning_rate": 0.1}
    full = settings(head_epochs=2, epochs=3, **rates)
    assert phases(full, SMALL) == [Phase("head", 0, 2, 0.1), Phase("full", 2, 5, 0.003)]
    only = settings(head_epochs=2, epochs=3, regime="head", **rates)
    assert phases(only, SMALL) == [Phase("head", 0, 5, 0.1)]
    assert phases(settings(head_epochs=0, epochs=3), SMALL) == [Phase("full", 0, 3, 0.003)]


def test_the_rate_climbs_and_falls() -> None:
    rates = [learning_rate(step, 10, peak=1.0, warmup=0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[6] == pytest.approx(0.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.05
    assert learning_rate(0, 10, peak=1.0, warmup=0) == 1
    assert learning_rate(0, 1, peak=1.0, warmup=1.0) == 0.5


@pytest.mark.parametrize(("tiles", "sizes"), [(8, [4, 4]), (9, [3, 3, 3]), (3, [3]), (1, [1])])
def test_batches_are_even_and_hold_every_tile_once(tiles: int, sizes: list[int]) -> None:
    found = batches(tiles, 4, seed=1, epoch=0)
    assert [len(rows) for rows in found] == sizes
    assert sorted(np.concatenate(found)) == list(range(tiles))


def test_another_epoch_has_another_order() -> None:
    def order(epoch: int) -> list[int]:
        return [int(row) for rows in batches(50, 8, seed=1, epoch=epoch) for row in rows]

    assert order(0) == order(0) != order(1)


def row(epoch: int, precision: float, loss: float = 0.5) -> Epoch:
    return Epoch(epoch, "full", 0.1, loss, {"average_precision": precision}, 0.001)


def test_the_best_epoch_has_the_best_precision_and_then_the_least_loss() -> None:
    history = [row(0, 0.8), row(1, 0.9, 0.4), row(2, 0.9, 0.3), row(3, 0.85, 0.1)]
    assert best_epoch(history).epoch == 2


def test_training_stalls_after_epochs_without_a_better_one() -> None:
    phase = Phase("full", 1, 9, 0.1)
    history = [row(0, 0.99), row(1, 0.8), row(2, 0.9), row(3, 0.9, 0.6)]
    assert not has_stalled(history, phase, patience=2)
    assert has_stalled([*history, row(4, 0.7)], phase, patience=2)
    assert not has_stalled([row(0, 0.99)], phase, patience=1)


def test_training_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = settings(epochs=9, patience=2)
    monkeypatch.setattr(training, "score", lambda *_: dict.fromkeys(METRICS, 0.5))
    monkeypatch.setattr(training, "log_loss", lambda *_: 1.0)
    _, history = train(tmp_path, how=how)
    assert [row.phase for row in history] == ["head", "full", "full", "full"]


# --- images -----------------------------------------------------------------------------------


def to_batch(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_no_change_is_no_change() -> None:
    batch = to_batch(fold().pixels)
    changed = augment(batch, torch.from_numpy(draws(0, 0, 12)), STILL)
    assert torch.equal(changed, batch.float() / 255)


def test_flips_and_turns_are_the_eight_of_a_square_and_equally_likely() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    eight = [np.rot90(f, turns) for f in (image[0], image[0][::-1]) for turns in range(4)]
    batch = to_batch(image.repeat(800, axis=0))
    how = STILL.model_copy(update={"flips": True})
    changed = augment(batch, torch.from_numpy(draws(0, 0, 800)), how).permute(0, 2, 3, 1) * 255
    counts = [sum(bool((c.round().numpy() == e).all()) for c in changed) for e in eight]
    assert sum(counts) == 800
    assert min(counts) > 60


def test_colour_changes_keep_within_their_reach() -> None:
    batch = to_batch(np.full((200, 4, 4, 3), (100, 120, 140), dtype=np.uint8))
    drawn = torch.from_numpy(draws(0, 0, 200))

    def change(**how: float) -> Tensor:
        return augment(batch, drawn, STILL.model_copy(update=how)) * 255

    bright = change(brightness=0.2)[:, 0, 0, 0]
    assert 80 <= bright.min() < 85
    assert 115 < bright.max() <= 120
    # A change of saturation leaves the grey value alone.
    spread = change(saturation=0.5)[:, :, 0, 0]
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(spread @ luma, torch.tensor([100.0, 120, 140]) @ luma, atol=1e-2)
    reach = spread[:, 2] - spread[:, 0]
    assert 20 <= reach.min() < 25
    assert 55 < reach.max() <= 60


def test_contrast_changes_about_the_mean() -> None:
    pixels = np.full((200, 2, 2, 3), 100, dtype=np.uint8)
    pixels[:, 0] = 140
    how = STILL.model_copy(update={"contrast": 0.5})
    changed = augment(to_batch(pixels), torch.from_numpy(draws(0, 0, 200)), how) * 255
    assert torch.allclose(changed.mean((1, 2, 3)), torch.full((200,), 120.0), atol=1e-2)
    reach = changed[:, 0, 0, 0] - changed[:, 0, 1, 0]
    assert 20 <= reach.min() < 25
    assert 55 < reach.max() <= 60


def test_scaling_zooms_about_the_centre() -> None:
    pixels = np.zeros((1, 9, 9, 3), dtype=np.uint8)
    pixels[0, 4, 4] = 255
    zoomed = torch.zeros(1, 7)
    how = STILL.model_copy(update={"scale": 0.5})
    zoomed[0, 3] = 1.0
    larger = augment(to_batch(pixels), zoomed, how)[0, 0]
    zoomed[0, 3] = 0.0
    smaller = augment(to_batch(pixels), zoomed, how)[0, 0]
    assert larger[4, 4] == smaller[4, 4] == 1
    assert larger.sum() > 1.5 > smaller.sum()


def test_changes_depend_on_seed_epoch_and_tile_alone() -> None:
    assert np.array_equal(draws(1, 2, 5), draws(1, 2, 9)[:5])
    assert not np.array_equal(draws(1, 2, 5), draws(1, 3, 5))
    assert not np.array_equal(draws(1, 2, 5), draws(2, 2, 5))
    batch, drawn = to_batch(fold().pixels), torch.from_numpy(draws(0, 0, 12))
    together = augment(batch, drawn, PARAMS.train.augment)
    alone = augment(batch[7:8], drawn[7:8], PARAMS.train.augment)
    # A processor may sum another number of images in another order.
    assert torch.allclose(together[7:8], alone, atol=1e-6)


def test_logits_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = place(build_model(SMALL, image_size=64, pretrained=False, seed=0), CPU)
    nn.init.ones_(next(heads(model)[0].parameters()))
    tiles = fold(7).pixels
    monkeypatch.setattr("capetown.pools.model.inference.BATCH_SIZE", 3)
    found = predict_logits(model, tiles, mean=[0.5] * 3, std=[0.2] * 3)
    batch = normalise(to_device(tiles, CPU).float() / 255, [0.5] * 3, [0.2] * 3)
    with torch.no_grad():
        expected = model.eval()(batch)[:, 0].numpy()
    assert found == pytest.approx(expected, abs=1e-4)
    assert batch[0, 0, 0, 0] == pytest.approx((tiles[0, 0, 0, 0] / 255 - 0.5) / 0.2)


def card_of(architecture: str) -> ModelCard:
    return ModelCard(
        architecture=architecture, image_size=64, mean=[0.5] * 3, std=[0.5] * 3,
        interpolation="bicubic", classes=["no", "yes"], threshold=0.5, temperature=1,
        dataset="", packages={},
    )  # fmt: skip


def outspoken_model(architecture: str) -> nn.Module:
    """With random weights in the last layer, too."""
    backbone = SMALL.model_copy(update={"architecture": architecture})
    model = build_model(backbone, image_size=64, pretrained=False, seed=0).eval()
    for parameter in list(heads(model)[0].parameters())[-2:]:
        nn.init.normal_(parameter)
    return model


def test_the_pushes_of_all_places_sum_to_the_logit() -> None:
    model = outspoken_model("test_efficientnet.r160_in1k")
    bias = list(heads(model)[0].parameters())[-1]
    batch = torch.rand(1, 3, 64, 64)
    assert contributions(model, batch).sum().item() == pytest.approx(
        (model(batch) - bias).item(), abs=1e-4
    )


@pytest.mark.parametrize(
    "architecture", ["test_efficientnet.r160_in1k", "test_vit.r160_in1k", "caformer_s18"]
)
def test_saliency_shows_what_speaks_for_and_against(architecture: str) -> None:
    pixels, card = fold().pixels[1], card_of(architecture)
    model = outspoken_model(architecture)
    up = saliency(model, card, pixels, towards_yes=True)
    down = saliency(model, card, pixels, towards_yes=False)
    for heat in (up, down):
        assert heat.shape == (64, 64)
        assert heat.min() >= 0
        assert heat.max() in (0, pytest.approx(1))
    assert not np.array_equal(up, down)
    assert overlay(pixels, up).size == (64, 64)
    assert overlay(np.zeros((20, 30, 3), np.uint8), up).size == (30, 20)


def test_every_tile_has_a_picture_of_its_own() -> None:
    assert picture_name("images/yes/W35A_7_58.tif") == "yes-W35A_7_58.png"
    assert picture_name("images/yes/W35A_7_58.tif", "-saliency") == "yes-W35A_7_58-saliency.png"
    names = ["a1.tif", "a1.TIF", "a1.tiff", "a1.tiff.tif", "a1-saliency.tif", "a1.tif.tif"]
    drawn = [picture_name(f"{c}/{n}", s) for c in CLASSES for n in names for s in ("", "-saliency")]
    assert len(set(drawn)) == len(drawn)


# --- devices ----------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_one_line() -> None:
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available():
        with pytest.raises(CapetownError, match="device: this machine has no cuda"):
            choose_device("cuda")
    assert half_precision(CPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_agree(tmp_path: Path) -> None:
    histories = []
    for device in ("cpu", "cuda"):
        model = build_model(SMALL, image_size=64, pretrained=False, seed=1)
        history = fit(
            place(model, torch.device(device)), fold(), fold(8, seed=9),
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
            r"epoch 2, full: +67%.* 8/12 \[00:0\d<00:0\d, .*images/s\]", said.getvalue()
        )
        assert len(shown) == is_terminal


# --- what goes wrong --------------------------------------------------------------------------


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
    monkeypatch.setattr("capetown.pools.evaluation.saliency.normalise", full)
    monkeypatch.setattr(nn.Module, "to", full)
    for work in (
        lambda: predict_logits(model, pixels, mean=card.mean, std=card.std),
        lambda: saliency(model, card, pixels[0], towards_yes=True),
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


# --- checkpoints ------------------------------------------------------------------------------


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
    start = place(build_model(SMALL, image_size=64, pretrained=False, seed=1), CPU)
    with pytest.raises(StopError):
        fit(
            start, fold(12), fold(8, seed=9), backbone=SMALL, settings=how, seed=1,
            checkpoints=folder, on_epoch=stop_after,
        )  # fmt: skip
    torch.rand(3)  # whatever happens to torch's generator in between
    again, history = train(folder, how=how)
    assert history == expected
    assert equal(again.state_dict(), model.state_dict())


# --- the stages -------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What the stages read: params, 24 small tiles, and their folds."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"pretrained": False, "threads": 1}
    params["train"] |= {"image_size": 32, "head_epochs": 1, "epochs": 5, "std": [0.25] * 3}
    params["backbones"]["lite"]["batch_size"] = 2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    rows = []
    for n, pixels in enumerate(fold(24, 32).pixels):
        label = "yes" if n % 2 else "no"
        path = f"images/swimming-pool/{label}/S{n // 4}_{n}_1.tif"
        (tmp_path / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "raw" / path)
        rows.append((path, label, f"S{n // 4}", ("train", "valid", "test")[max(0, n // 4 - 3)]))
    (tmp_path / "splits").mkdir()
    (tmp_path / "metrics").mkdir()
    table = pd.DataFrame(rows, columns=["path", "label", "sheet", "fold"])
    table.to_csv(tmp_path / "splits" / "tiles.csv", index=False)
    return tmp_path


def start_stage(workspace: Path, name: str, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(workspace / "c")}
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, f"stages.{name}"],
        cwd=workspace, env=environment, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_stage(workspace: Path, name: str) -> str:
    stage = start_stage(workspace, name)
    _, said = stage.communicate()
    assert stage.returncode == 0, said
    return said


def outputs(workspace: Path) -> dict[str, bytes]:
    """Everything that DVC keeps of a training."""
    files = [*(workspace / "metrics").rglob("*.*"), *(workspace / "models").iterdir()]
    return {str(file.relative_to(workspace)): file.read_bytes() for file in files}


def lines(stage: subprocess.Popen[str]) -> Iterator[str]:
    assert stage.stderr is not None
    yield from stage.stderr


def test_a_killed_training_goes_on_and_both_stages_write_what_they_should(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "workspace"
    shutil.copytree(workspace, other)
    tiles = pd.read_csv(other / "splits" / "tiles.csv")
    for path in tiles[tiles["fold"] == "test"]["path"]:
        (other / "raw" / path).unlink()  # training has no use for them
    run_stage(other, "train")

    stage = start_stage(workspace, "train")
    for line in lines(stage):
        if line.startswith("epoch 3"):
            stage.send_signal(signal.SIGKILL)
            break
    assert stage.wait() == -signal.SIGKILL
    [checkpoint] = (workspace / "checkpoints").iterdir()
    assert (checkpoint / "last.pt").exists()
    shutil.rmtree(workspace / "metrics")  # as DVC does
    (workspace / "metrics").mkdir()
    (workspace / "models").touch()  # in the way of the model, after the last epoch
    stage = start_stage(workspace, "train")
    assert "going on after epoch" in stage.communicate()[1]
    assert stage.returncode != 0
    (workspace / "models").unlink()
    said = run_stage(workspace, "train")
    assert "going on after epoch" in said
    assert "valid loss" not in said
    assert outputs(workspace) == outputs(other)
    assert list((workspace / "checkpoints").iterdir()) == []

    history = pd.read_csv(workspace / "metrics" / "history.csv")
    assert list(history.columns) == [
        "epoch", "phase", "train_loss", "valid_loss", "balanced_accuracy", "average_precision",
        "precision", "recall", "roc_auc", "learning_rate",
    ]  # fmt: skip
    plots = workspace / "metrics" / "train" / "plots" / "metrics"
    assert sorted(p.stem for p in plots.iterdir()) == sorted(history.columns[2:])
    for name in history.columns[2:]:
        logged = pd.read_csv(plots / f"{name}.tsv", sep="\t")
        assert logged["step"].tolist() == history["epoch"].tolist()
        assert logged[name].tolist() == pytest.approx(history[name].tolist())
    summary = json.loads((workspace / "metrics" / "train" / "metrics.json").read_text())
    assert summary["best"]["average_precision"] == history["average_precision"].max()

    run_stage(workspace, "evaluate")
    figures = json.loads((workspace / "metrics" / "evaluate.json").read_text())
    predicted = pd.read_csv(workspace / "metrics" / "predictions.csv")
    assert list(predicted.columns) == ["path", "label", "probability"]
    assert len(predicted) == figures["n"] == 4
    card = json.loads((workspace / "models" / "model.json").read_text())
    assert (card["mean"], card["std"], card["interpolation"]) == ([0.5] * 3, [0.25] * 3, "bicubic")
    wrong = (predicted["probability"] >= card["threshold"]) != (predicted["label"] == "yes")
    mistakes = pd.read_csv(workspace / "evaluation" / "mistakes.csv")
    assert len(mistakes) == wrong.sum()
    samples = pd.read_csv(workspace / "evaluation" / "samples.csv")
    named = {*mistakes["tile"], *mistakes["saliency"], *samples["tile"]}
    pictures = {p.name for p in (workspace / "evaluation").glob("*.png")}
    assert named == pictures
    for name in pictures:
        assert Image.open(workspace / "evaluation" / name).size == (32, 32)


def test_a_changed_param_starts_afresh(workspace: Path) -> None:
    stage = start_stage(workspace, "train")
    for line in lines(stage):
        if line.startswith("epoch 1"):
            stage.kill()
            break
    stage.wait()
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["train"] |= {"epochs": 1, "weight_decay": 0.01}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    assert "going on" not in run_stage(workspace, "train")
    assert len(pd.read_csv(workspace / "metrics" / "history.csv")) == 2


# --- several processes ------------------------------------------------------------------------


def test_batch_norms_see_the_whole_batch_on_gpus_and_a_warning_says_where_they_do_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = outspoken_model("test_efficientnet.r160_in1k")
    batch = torch.rand(2, 3, 64, 64)
    before, parameters = model(batch), list(model.parameters())

    def kinds() -> set[type]:
        return {type(m) for m in model.modules() if hasattr(m, "running_mean")}

    own = kinds()
    parallel.share_batch_norms(model, torch.device("cuda"))
    assert kinds() == own
    monkeypatch.setattr(parallel, "size", lambda: 2)
    parallel.share_batch_norms(model, CPU)
    assert kinds() == own
    assert "batch normalisation sees each process's share of a batch by itself" in caplog.text

    parallel.share_batch_norms(model, torch.device("cuda"))
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds())
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert torch.equal(model(batch), before)

    caplog.clear()
    parallel.share_batch_norms(outspoken_model("test_convnext.r160_in1k"), CPU)
    assert caplog.text == ""


def test_two_processes_train_as_one(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A backbone that norms each image by itself, so that a batch can be shared out."""
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["backbones"]["lite"] |= {"architecture": "test_convnext.r160_in1k", "batch_size": 6}
    params["train"] |= {"epochs": 2}
    path.write_text(yaml.safe_dump(params))
    # Five tiles to validate: a share of three and a share of two.
    table = pd.read_csv(workspace / "splits" / "tiles.csv")
    table.loc[table.index[table["fold"] == "test"][:1], "fold"] = "valid"
    table.to_csv(workspace / "splits" / "tiles.csv", index=False)
    other = tmp_path_factory.mktemp("other") / "workspace"
    shutil.copytree(workspace, other)
    run_stage(workspace, "train")

    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    stage = start_stage(other, "train", launcher)
    _, said = stage.communicate()
    assert stage.returncode == 0, said
    assert said.count("epoch 3 (full)") == 1
    alone, together = (pd.read_csv(root / "metrics" / "history.csv") for root in (workspace, other))
    pd.testing.assert_frame_equal(alone, together, atol=2e-6, rtol=0)
    one, two = (load_file(root / "models" / "model.safetensors") for root in (workspace, other))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert list((other / "checkpoints").iterdir()) == []
