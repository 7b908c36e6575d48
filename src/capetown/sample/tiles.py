"""Made-up aerial tiles in the layout of the City's bucket, with and without swimming pools."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from capetown.errors import CapetownError
from capetown.sample.canvas import Array, Mask, Rng, noise
from capetown.sample.scenes import draw
from capetown.sample.styles import Style, choose_style

SIZE = 256
QUALITY = 72
TILES_A_SHEET = (4, 8)
COLUMNS, ROWS = 60, 20
LEAST_POOL = 24
"""Fewest pool pixels of a `yes` tile: about a square metre, so a few labels are near noise."""


@dataclass(frozen=True)
class TilePlan:
    """A tile to be drawn: its place in the seed's tree, its label and its file name."""

    sheet: int
    number: int
    has_pool: bool
    name: str


def write_tiles(folder: Path, count: int, seed: int) -> None:
    """Write `count` tiles under `folder`, two thirds of them with a pool.

    They go to `images/swimming-pool/{yes,no}/SHEET_ROW_COL.tif`, 256 by 256 RGB TIFFs with JPEG
    compression, and each of the two folders gets a `manifest`, one file name a line. The same
    arguments give the same bytes.

    Raises:
        CapetownError: `count` is below 1, or more than there are sheet names for.
    """
    tiles = plan(count, seed)
    for label in ("yes", "no"):
        home = folder / "images" / "swimming-pool" / label
        home.mkdir(parents=True, exist_ok=True)
        chosen = [tile for tile in tiles if tile.has_pool == (label == "yes")]
        for tile in chosen:
            pixels, _ = make_tile(tile, seed)
            image = Image.fromarray(pixels).convert("YCbCr")
            image.save(home / tile.name, compression="jpeg", quality=QUALITY)
        names = sorted(tile.name for tile in chosen)
        (home / "manifest").write_text("".join(f"{name}\n" for name in names))


def plan(count: int, seed: int) -> list[TilePlan]:
    """Names and labels of the tiles: sheets of 4 to 8, some richer in pools than others."""
    names = [f"{a}{n:02d}{b}" for a in "NPRSTUVWX" for n in range(1, 100) for b in "ABCD"]
    if not 1 <= count <= len(names) * TILES_A_SHEET[0]:
        limit = len(names) * TILES_A_SHEET[0]
        raise CapetownError(f"cannot make {count} tiles: ask for 1 to {limit}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    places: list[tuple[int, int, str]] = []
    wealth: list[float] = []
    sheet = 0
    while len(places) < count:
        size = int(rng.integers(TILES_A_SHEET[0], TILES_A_SHEET[1] + 1))
        rich = rng.normal()
        cells = rng.choice(ROWS * COLUMNS, size, replace=False)
        for number, cell in enumerate(cells.tolist()):
            name = f"{names[order[sheet]]}_{cell // COLUMNS + 1}_{cell % COLUMNS + 1}.tif"
            places.append((sheet, number, name))
            wealth.append(0.6 * rich + rng.normal())
        sheet += 1
    with_pool = set(np.argsort(wealth[:count])[count - round(count * 2 / 3) :].tolist())
    return [TilePlan(s, n, i in with_pool, name) for i, (s, n, name) in enumerate(places[:count])]


def make_tile(tile: TilePlan, seed: int) -> tuple[NDArray[np.uint8], Mask]:
    """The tile's picture, `(256, 256, 3)`, and which of its pixels show a pool, `(256, 256)`."""
    look = choose_style(
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(tile.sheet,)))
    )
    root = np.random.SeedSequence(seed, spawn_key=(tile.sheet, tile.number))
    while True:
        rng = np.random.default_rng(root.spawn(1)[0])
        scene, pool = draw(look, tile.has_pool, rng)
        seen = np.asarray(shrink(Image.fromarray(pool.astype(np.uint8) * 255))) > 127
        if not tile.has_pool or int(seen.sum()) >= LEAST_POOL:
            return photograph(scene, look, rng), seen


def photograph(scene: Array, look: Style, rng: Rng) -> NDArray[np.uint8]:
    """The scene as the sheet's camera took it: blur, haze, tint, sharpening and sensor noise."""
    grey = scene @ np.array([[0.3], [0.6], [0.1]], np.float32)
    colours = (grey + (scene - grey) * look.colourful) * look.tint
    hazy = colours * (1 - look.haze / 255) + look.haze
    image = shrink(Image.fromarray(np.clip(hazy, 0, 255).astype(np.uint8)))
    image = image.filter(ImageFilter.GaussianBlur(look.blur))
    image = image.filter(ImageFilter.UnsharpMask(1.2, round(100 * look.sharpen), 0))
    specks = np.stack([noise(rng, SIZE, 1.7) for _ in range(3)], 2)
    pixels = np.asarray(image) + look.grain * specks
    exposed: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return exposed


def shrink(image: Image.Image) -> Image.Image:
    """The canvas at a tile's size, each pixel the mean of what it covers."""
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)
