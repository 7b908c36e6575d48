"""How often the point of strongest evidence lies on a pool, and what raises that.

    python -m benchmarks.pointing --tiles FOLDER RUN [RUN ...]

A RUN is a folder in which the stages split, train and evaluate ran on these tiles, with `models/`
and `splits/tiles.csv`; FOLDER has a boxes.csv (path, x0, y0, x1, y1 in pixels of the tile). Of the
tiles of `valid` and `test` that have a pool and that the model rightly calls so, it prints the
share whose point lies in a box, for the tile's centre, a random point (the share of the tile that
boxes cover), the last features alone, the same averaged over a tile's eight flips and quarter
turns, and the evidence as `capetown predict` points at it; and the CPU milliseconds of one tile.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from capetown.city import CLASSES
from capetown.imagery.reading import Pixels, read_tile, resize
from capetown.pools.metrics import calibrated
from capetown.pools.model.inference import batch_to_device, normalise, predict_logits
from capetown.pools.model.manifest import ModelManifest, load_model
from capetown.pools.model.saliency import Points, contributions, saliency_maps, strongest_points

CPU = torch.device("cpu")
BATCH = 8
Boxes = list[Points]
View = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=Path, required=True)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    arguments = parser.parse_args()
    every = pd.read_csv(arguments.tiles / "boxes.csv")
    for run in arguments.runs:
        model, card = load_model(run / "models", CPU)
        pixels, boxes, called = found_tiles(run, arguments.tiles, every, model, card)
        print(f"{run}: {card.architecture} at {card.image_size}, {len(boxes)} of {called} tiles "
              "with a pool are called so")  # fmt: skip
        covered = np.mean([covered_share(tile) for tile in boxes])
        print(f"{'a random point':<44}{covered:>8.3f}")
        print(f"{'the centre':<44}{hits(np.full((len(boxes), 2), 0.5), boxes):>8.3f}")
        for name, point in WAYS.items():
            start = time.process_time()
            batches = (pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH))
            points = np.concatenate([point(model, card, batch) for batch in batches])
            spent = (time.process_time() - start) / len(pixels) * 1000
            print(f"{name:<44}{hits(points, boxes):>8.3f}{spent:>10.0f} ms", flush=True)


def found_tiles(
    run: Path, root: Path, every: pd.DataFrame, model: nn.Module, card: ModelManifest
) -> tuple[Pixels, Boxes, int]:
    """Tiles not learned from that are rightly called `yes`, their boxes as shares of the side."""
    table = pd.read_csv(run / "splits" / "tiles.csv")
    table = table[table["fold"].isin(["valid", "test"]) & (table["label"] == CLASSES[1])]
    tiles = [read_tile(root / path, card.tiles) for path in table["path"]]
    pixels = np.stack([resize(tile, card.image_size, card.interpolation) for tile in tiles])
    logits = predict_logits(model, pixels, mean=card.mean, std=card.std, tta=card.tta)
    called = np.flatnonzero(calibrated(logits, card.temperature) >= card.threshold)
    boxes = []
    for at in called:
        rows = every[every["path"] == table["path"].iloc[at]]
        height, width = tiles[at].shape[:2]
        boxes.append(rows[["x0", "y0", "x1", "y1"]].to_numpy() / [width, height, width, height])
    return pixels[called], boxes, len(table)


def all_levels(model: nn.Module, card: ModelManifest, pixels: Pixels) -> Points:
    """The strongest point as `capetown predict` has it."""
    return strongest_points(saliency_maps(model, card, pixels, towards_yes=True))


def last_features(model: nn.Module, card: ModelManifest, pixels: Pixels, views: int = 1) -> Points:
    """The strongest point of the last features alone, stretched to the tile."""
    batch = normalise(batch_to_device(pixels, CPU).float() / 255, card.mean, card.std)
    seen = []
    for turned, back in dihedral()[:views]:
        seen.append(back(contributions(model, turned(batch))[0]))
    heat = functional.interpolate(torch.stack(seen).mean(0)[:, None], pixels.shape[1:3],
                                  mode="bicubic", align_corners=False)[:, 0]  # fmt: skip
    return strongest_points(heat.clamp(min=0).numpy())


def dihedral() -> list[tuple[View, View]]:
    """The eight flips and quarter turns of the last two dimensions, and the way back of each."""

    def there(swap: bool, flips: tuple[int, ...], images: Tensor) -> Tensor:
        return (images.transpose(-2, -1) if swap else images).flip(flips)

    def back(swap: bool, flips: tuple[int, ...], images: Tensor) -> Tensor:
        return images.flip(flips).transpose(-2, -1) if swap else images.flip(flips)

    ways = product((False, True), ((), (-1,), (-2,), (-2, -1)))
    return [(partial(there, *way), partial(back, *way)) for way in ways]


def hits(points: Points, boxes: Boxes) -> float:
    """The share of tiles whose point lies in one of their boxes."""
    inside = [
        ((tile[:, :2] <= point) & (point <= tile[:, 2:])).all(axis=1).any()
        for point, tile in zip(points, boxes, strict=True)
    ]
    return float(np.mean(inside))


def covered_share(boxes: Points, steps: int = 512) -> float:
    """The share of a tile that boxes cover."""
    middle = (np.arange(steps) + 0.5) / steps
    covered = np.zeros((steps, steps), bool)
    for left, top, right, bottom in boxes:
        covered |= ((top <= middle) & (middle <= bottom))[:, None] & (
            (left <= middle) & (middle <= right)
        )
    return float(covered.mean())


WAYS: dict[str, Callable[[nn.Module, ModelManifest, Pixels], Points]] = {
    "the last features": last_features,
    "the last features, eight views": partial(last_features, views=8),
    "levels averaged, as predict does": all_levels,
}

if __name__ == "__main__":
    main()
