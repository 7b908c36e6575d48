"""Tiny tiles and a tiny model for the tests of training."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from capetown.imagery.reading import AS_STORED
from capetown.params import Augment, Backbone, Train, load_params
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.model.architecture import build_model, classifier_layers
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.training.checkpoints import load_checkpoint
from capetown.pools.training.fit_one import Fitted, TrainingConfig, fit_one
from capetown.pools.training.schedules import Epoch
from tests import ROOT
from tests.pools import TYPICAL

PARAMS = load_params(ROOT / "params.yaml")
CPU = torch.device("cpu")
SMALL = Backbone(
    architecture="test_efficientnet.r160_in1k", image_size=64, batch_size=4, learning_rate=0.003
)
STILL = Augment(flips=False, brightness=0, contrast=0, saturation=0, scale=0)


def backbone_parameters(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and values of all tensors outside the head, including buffers."""
    tensors = [part.state_dict(keep_vars=True).values() for part in classifier_layers(model)]
    mine = {id(tensor) for tensor in chain(*tensors)}
    return [pair for pair in model.state_dict(keep_vars=True).items() if id(pair[1]) not in mine]


def settings(**changed: object) -> Train:
    return PARAMS.train.model_copy(update={"head_epochs": 1, "epochs": 2, **changed})


def fold(tiles: int = 12, size: int = 64, seed: int = 0) -> LabelledTiles:
    """Tiles of noise. Every other one has a bright square."""
    pixels = np.random.default_rng(seed).integers(0, 128, (tiles, size, size, 3), dtype=np.uint8)
    labels = np.arange(tiles) % 2
    pixels[labels == 1, size // 4 : size // 2, size // 4 : size // 2] = 255
    paths = [f"{n}.tif" for n in range(tiles)]
    sheets = np.array(["A"] * tiles)
    return LabelledTiles(paths, sheets, sheets, labels, pixels, f"{tiles} {size} {seed}")


def config(
    backbone: Backbone = SMALL, how: Train | None = None, size: int = 64, seed: int = 1
) -> TrainingConfig:
    how = (how or settings()).model_copy(update={"image_size": size})
    return TrainingConfig(
        backbone=backbone, settings=how, pretrained=False, seed=seed, threads=1, device="cpu"
    )


def train(
    folder: Path, backbone: Backbone = SMALL, how: Train | None = None, *, size: int = 64,
    tiles: int = 12, seed: int = 1, on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:  # fmt: skip
    return fit_one(
        config(backbone, how, size, seed), fold(tiles, size), fold(8, size, seed=9),
        checkpoints=folder, on_epoch=on_epoch,
    )  # fmt: skip


def checkpoint_in(folder: Path) -> dict[str, Any]:
    """The state of the only checkpoint in a folder."""
    [checkpoint] = folder.iterdir()
    return load_checkpoint(checkpoint) or {}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def card_of(architecture: str) -> ModelManifest:
    return ModelManifest(
        architecture=architecture, image_size=64, mean=[0.5] * 3, std=[0.5] * 3,
        interpolation="bicubic", tiles=AS_STORED, typical=TYPICAL,
        classes=["no", "yes"], threshold=0.5, temperature=1, dataset="", packages={},
    )  # fmt: skip


def outspoken_model(architecture: str) -> nn.Module:
    """A model whose last layer has random weights instead of zeros."""
    backbone = SMALL.model_copy(update={"architecture": architecture})
    model = build_model(backbone, image_size=64, pretrained=False, seed=0).eval()
    for parameter in list(classifier_layers(model)[0].parameters())[-2:]:
        nn.init.normal_(parameter)
    return model
