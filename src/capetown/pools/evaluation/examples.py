"""Tiles as pictures for people: the worst mistakes with what led to them, and samples."""

import re
from pathlib import Path

import pandas as pd
from PIL import Image
from torch import nn

from capetown.pools.evaluation.saliency import overlay, saliency
from capetown.pools.model.modelfile import ModelCard
from capetown.pools.tiles.reading import read_tile, resize

# Tiles of each class that are shown as examples.
SAMPLES = 4


def picture_name(path: str, suffix: str = "") -> str:
    """A tile's picture, of another name for every tile: ``yes-W35A_7_58.png``.

    Only where the end of the name cannot be guessed does it stay: ``yes-pool.TIF.png``.
    """
    tile = Path(path)
    name = tile.stem if re.fullmatch(r"[^.]*\d\.tif", tile.name) else tile.name
    return f"{tile.parent.name}-{name}{suffix}.png"


def draw_mistakes(
    worst: pd.DataFrame, model: nn.Module, card: ModelCard, *, root: Path, folder: Path
) -> pd.DataFrame:
    """Write pictures of mistakes, and of what spoke for the model's answer, into a folder.

    Args:
        worst: as `capetown.pools.evaluation.judging.worst_mistakes` gives them.
        model: on the device to use, in evaluation mode.
        card: the model's.
        root: what the paths are relative to.
        folder: where to write.

    Returns:
        The rows, with the names of the pictures as ``tile`` and ``saliency``.
    """
    for path, kind in zip(worst["path"], worst["kind"], strict=True):
        tile = read_tile(root / path, card.tiles)
        pixels = resize(tile, card.image_size, card.interpolation)
        heat = saliency(model, card, pixels, towards_yes=kind == "false_positive")
        Image.fromarray(tile).save(folder / picture_name(path))
        overlay(tile, heat).save(folder / picture_name(path, "-saliency"))
    return worst.assign(
        tile=[picture_name(path) for path in worst["path"]],
        saliency=[picture_name(path, "-saliency") for path in worst["path"]],
    )


def draw_samples(
    table: pd.DataFrame, card: ModelCard, *, seed: int, root: Path, folder: Path
) -> pd.DataFrame:
    """Write pictures of `SAMPLES` random tiles of each class into a folder.

    Args:
        table: path and label of the tiles to choose from.
        card: of the model, which says how tiles are read.
        seed: another seed gives other tiles.
        root: what the paths are relative to.
        folder: where to write.

    Returns:
        Path and label, with the name of the picture as ``tile``.
    """
    shuffled = table.sample(frac=1, random_state=seed)
    chosen = shuffled.groupby("label").head(SAMPLES).sort_values("path")[["path", "label"]]
    for path in chosen["path"]:
        Image.fromarray(read_tile(root / path, card.tiles)).save(folder / picture_name(path))
    return chosen.assign(tile=[picture_name(path) for path in chosen["path"]])
