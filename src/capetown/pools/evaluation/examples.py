"""Pictures of tiles for the report: the worst mistakes with their saliency, and random samples.

Files are numbered, not named by tile, so that Git compares a run's pictures with the last one's.
"""

from pathlib import Path

import pandas as pd
from PIL import Image
from torch import nn

from capetown.errors import CapetownError
from capetown.imagery.reading import Pixels, UnreadableTileError, read_tile, resize
from capetown.pools.evaluation.saliency_map import overlay, saliency_map
from capetown.pools.model.manifest import ModelManifest

# Random tiles of each class to show.
SAMPLES = 4


def draw_mistakes(
    worst: pd.DataFrame, model: nn.Module, card: ModelManifest, *, root: Path, folder: Path
) -> pd.DataFrame:
    """Write pictures of `worst_mistakes`, with and without saliency, into a folder.

    Returns:
        The rows, with the pictures' names as ``tile`` and ``saliency``.

    Raises:
        CapetownError: a tile cannot be read.
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
    """Write pictures of `SAMPLES` random tiles of each class, as `draw_mistakes` does.

    Returns:
        Path, label, and the picture's name as ``tile``.
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
        raise CapetownError(str(error), where=path) from error
