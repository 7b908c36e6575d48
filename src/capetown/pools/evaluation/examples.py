"""Tiles as pictures for people: the worst mistakes with what led to them, and samples.

They are named by number and not by tile, so that Git knows a run's pictures from the last one.
"""

from pathlib import Path

import pandas as pd
from PIL import Image
from torch import nn

from capetown.errors import CapetownError
from capetown.imagery.reading import Pixels, UnreadableTileError, read_tile, resize
from capetown.pools.evaluation.saliency_map import overlay, saliency_map
from capetown.pools.model.manifest import ModelManifest

# Tiles of each class that are shown as examples.
SAMPLES = 4


def draw_mistakes(
    worst: pd.DataFrame, model: nn.Module, card: ModelManifest, *, root: Path, folder: Path
) -> pd.DataFrame:
    """Write pictures of mistakes, and of what spoke for the model's answer, into a folder.

    Args:
        worst: as `capetown.pools.evaluation.metrics_report.worst_mistakes` gives them.
        model: on the device to use, in evaluation mode.
        card: the model's.
        root: what the paths are relative to.
        folder: where to write.

    Raises:
        CapetownError: a tile cannot be read.

    Returns:
        The rows, with the names of the pictures as ``tile`` and ``saliency``.
    """
    rows = zip(worst["path"], worst["kind"], strict=True)
    for number, (path, kind) in enumerate(rows, start=1):
        tile = _read(root / path, card)
        pixels = resize(tile, card.image_size, card.interpolation)
        heat = saliency_map(model, card, pixels, towards_yes=kind == "false_positive")
        Image.fromarray(tile).save(folder / f"mistake-{number}.png")
        overlay(tile, heat).save(folder / f"mistake-{number}-saliency.png")
    numbers = range(1, len(worst) + 1)
    return worst.assign(
        tile=[f"mistake-{number}.png" for number in numbers],
        saliency=[f"mistake-{number}-saliency.png" for number in numbers],
    )


def draw_samples(
    table: pd.DataFrame, card: ModelManifest, *, seed: int, root: Path, folder: Path
) -> pd.DataFrame:
    """Write pictures of `SAMPLES` random tiles of each class into a folder.

    Args:
        table: path and label of the tiles to choose from.
        card: of the model, which says how tiles are read.
        seed: another seed gives other tiles.
        root: what the paths are relative to.
        folder: where to write.

    Raises:
        CapetownError: a tile cannot be read.

    Returns:
        Path and label, with the name of the picture as ``tile``.
    """
    shuffled = table.sample(frac=1, random_state=seed)
    chosen = shuffled.groupby("label").head(SAMPLES).sort_values("path")[["path", "label"]]
    for number, path in enumerate(chosen["path"], start=1):
        picture = Image.fromarray(_read(root / path, card))
        picture.save(folder / f"sample-{number}.png")
    return chosen.assign(tile=[f"sample-{number}.png" for number in range(1, len(chosen) + 1)])


def _read(path: Path, card: ModelManifest) -> Pixels:
    try:
        return read_tile(path, card.tiles)
    except UnreadableTileError as error:
        raise CapetownError(f"{path}: {error}") from error
