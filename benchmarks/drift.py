"""How many tiles are called different from the training tiles, when they are and when not.

    python -m benchmarks.drift --tiles FOLDER --other FOLDER [--splits 8]

Both folders hold `images/swimming-pool/yes` and `no`. Each split keeps whole map sheets of --tiles
together. The limit is fitted to its training and validation tiles, as `train` does. The table has
the share of tiles that are called different: test tiles of unseen sheets, the same after a change,
and the tiles of another city; and how many whole sets `predict` would warn about.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageFilter

from capetown.city import TILES_FOLDER
from capetown.imagery.reading import Pixels, read_tile, resize
from capetown.params import Split
from capetown.pools.dataset.appearance import describe, fit_appearance, is_unlike
from capetown.pools.dataset.groups import group_tiles
from capetown.pools.dataset.listing import find_tiles, profile_tiles
from capetown.pools.dataset.locations import locate_tiles
from capetown.pools.dataset.split import split_tiles

SIDE, HOW = 288, "bicubic"
Described = npt.NDArray[np.float64]


def bands(pixels: Pixels, *, order: list[int]) -> Pixels:
    """The pixels with their bands in another order."""
    return np.ascontiguousarray(pixels[..., order])


def brighter(pixels: Pixels, *, factor: float) -> Pixels:
    """The pixels with all values times a factor."""
    return (pixels * factor).clip(0, 255).astype(np.uint8)


def blurred(pixels: Pixels, *, sigma: float) -> Pixels:
    """The pixels after a Gaussian blur."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


CHANGES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "half brightness": partial(brighter, factor=0.5),
    "brightness × 0.7": partial(brighter, factor=0.7),
    "brightness × 1.4": partial(brighter, factor=1.4),
    "grey": partial(bands, order=[1, 1, 1]),
    "bands 3 2 1": partial(bands, order=[2, 1, 0]),
    "bands 2 1 3": partial(bands, order=[1, 0, 2]),
    "bands 1 3 2": partial(bands, order=[0, 2, 1]),
    "blur of 1 pixel": partial(blurred, sigma=1),
    "blur of 2 pixels": partial(blurred, sigma=2),
}


def described(root: Path, paths: list[str]) -> dict[str, Described]:
    """Colour and texture of tiles, plain and after each change, shape (tiles, 13)."""
    images = [resize(read_tile(root / path), SIDE, HOW) for path in paths]
    found = {"plain": describe(images)}
    return found | {
        name: describe([change(image) for image in images]) for name, change in CHANGES.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=8)
    arguments = parser.parse_args()
    root = arguments.tiles
    found = find_tiles(root / TILES_FOLDER, root)
    tiles, digests, *_ = profile_tiles(found, root)
    settings = Split(
        strategy="sheet", groups="none", block_metres=1000, gap=0, corrections="none", valid=0.2,
        test=0.2,
    )  # fmt: skip
    grouped = group_tiles(tiles, {}, locate_tiles(tiles, root), settings).tiles
    here = described(root, [tile.path for tile in tiles])
    others = find_tiles(arguments.other / TILES_FOLDER, arguments.other)
    other = described(arguments.other, [tile.path for tile in others])
    sheets = np.array([tile.sheet for tile in grouped])
    rows = []
    for seed in range(1, arguments.splits + 1):
        test = np.array(split_tiles(grouped, digests, settings, seed)) == "test"
        usual = fit_appearance(here["plain"][~test], sheets[~test])
        assert usual
        sets = {"unseen sheets": here["plain"][test], "another city": other["plain"]}
        sets |= {f"unseen sheets, {name}": here[name][test] for name in CHANGES}
        sets |= {f"another city, {name}": other[name] for name in CHANGES}
        for name, numbers in sets.items():
            differ = usual.distances(numbers) > 1
            warned = is_unlike(int(differ.sum()), len(differ))
            rows.append({"shown": name, "different": differ.mean(), "warned": warned})
    table = pd.DataFrame(rows).groupby("shown", sort=False)
    shares = table["different"].agg(["mean", "min", "max"]).mul(100).round(1)
    print(shares.assign(warned=table["warned"].sum()).to_string())


if __name__ == "__main__":
    main()
