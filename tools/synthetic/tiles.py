"""Synthetic aerial tiles in the layout of the City's bucket, with and without swimming pools.

Tiles are cut from scenes of several tiles a side, so that neighbours continue each other: roads run
on, and pools are cut at edges. A scene is a piece of a block of a map sheet, and a tile's name says
where: SHEET_BLOCK_CELL. As in the City's bucket a few sheets hold most of the tiles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from capetown.city import BLOCKS_ACROSS, CELLS_ACROSS, CLASSES, MANIFEST, TILES_FOLDER
from capetown.errors import CapetownError
from tools.synthetic.canvas import Array, Mask, Rng, noise
from tools.synthetic.georeference import tags
from tools.synthetic.scenes import draw
from tools.synthetic.styles import Style, choose_style

# Pixels and metres of a tile's side, and tiles of a scene's.
SIDE, METRES, ACROSS = 256, 100, 3
# Scenes a side of a block. A scene lies anywhere in its part of the block but in the last row and
# column, so that none touches another.
SCENES = 2
SCENES_A_SHEET = (BLOCKS_ACROSS * SCENES) ** 2
SHEETS = [f"{a}{n:02d}{b}" for a in "NPRSTUVWX" for n in range(1, 100) for b in "ABCD"]
QUALITY = 72
# The share with a pool, and of labels that are wrong.
WITH_POOL, WRONG = 2 / 3, 0.015
# Fewest square metres of a pool that shows: a corner of a pool makes a tile one with a pool.
LEAST_POOL = 1.5
MOST_TILES = 100_000


@dataclass(frozen=True)
class Cut:
    """A tile cut from its scene: file name, pixels (side, side, 3), and where a pool shows."""

    name: str
    pixels: NDArray[np.uint8]
    pool: Mask

    @property
    def sheet(self) -> str:
        """The map sheet in its name."""
        return self.name.partition("_")[0]

    @property
    def has_pool(self) -> bool:
        """True if enough of a pool shows."""
        return float(self.pool.mean()) * METRES**2 >= LEAST_POOL


def write_tiles(
    folder: Path, count: int, seed: int, side: int = SIDE, *, georeferenced: bool = False
) -> None:
    """Write `count` tiles under `folder`, two thirds of them with a pool.

    They go to `images/swimming-pool/{yes,no}/SHEET_BLOCK_CELL.tif`, RGB TIFFs with JPEG
    compression, or with LZW, as the City's, if they are larger than 512 pixels. Each folder gets a
    `manifest`, one file name a line. A label in seventy is wrong. `georeferenced` tiles have
    GeoTIFF tags that place them in the metro. The same arguments give the same bytes.

    Raises:
        CapetownError: `count` or `side` is out of range.
    """
    if not 1 <= count <= MOST_TILES:
        raise CapetownError("out of range", where=f"{count} tiles", fix=f"use 1 to {MOST_TILES}")
    if not 64 <= side <= 2048:
        raise CapetownError("out of range", where=f"a side of {side} pixels", fix="use 64 to 2048")
    left = {"yes": round(count * WITH_POOL)}
    left["no"] = count - left["yes"]
    names: dict[str, list[str]] = {label: [] for label in CLASSES}
    errors = np.random.default_rng([seed, 3])
    sheets: dict[str, int] = {}
    for label in CLASSES:
        (folder / TILES_FOLDER / label).mkdir(parents=True, exist_ok=True)
    for cut in cuts(count, seed, side):
        sheets.setdefault(cut.sheet, len(sheets))
        has_pool = cut.has_pool ^ bool(errors.random() < WRONG)
        label = "yes" if has_pool else "no"
        if left[label]:
            left[label] -= 1
            names[label].append(cut.name)
            empty = ImageFileDirectory_v2()
            place = tags(cut.name, sheets[cut.sheet], side, METRES) if georeferenced else empty
            _save(folder / TILES_FOLDER / label / cut.name, cut.pixels, place)
        if not any(left.values()):
            break
    for label, found in names.items():
        lines = "".join(f"{name}\n" for name in sorted(found))
        (folder / TILES_FOLDER / label / MANIFEST).write_text(lines)


def cuts(count: int, seed: int, side: int) -> Iterator[Cut]:
    """The tiles of one scene after the other, without end.

    Args:
        count: how many are wanted; decides how many sheets there are.
        seed: of everything random.
        side: of a tile, in pixels.
    """
    for number, (sheet, block, row, column) in enumerate(places(count, seed)):
        flight = np.random.default_rng([seed, 1, SHEETS.index(sheet)])
        rng = np.random.default_rng([seed, 2, number])
        pixels, pool = make_scene(choose_style(flight, rng), side, rng)
        for y in range(ACROSS):
            for x in range(ACROSS):
                cell = (row + y) * CELLS_ACROSS + column + x + 1
                part = np.s_[y * side : (y + 1) * side, x * side : (x + 1) * side]
                yield Cut(f"{sheet}_{block}_{cell}.tif", pixels[part], pool[part])


def places(count: int, seed: int) -> Iterator[tuple[str, int, int, int]]:
    """Places of one scene after the other: sheet, block, row and column of its first cell.

    Sheets have unlike shares of the scenes, as in the City's bucket, where one of seven has two
    fifths; a sheet's blocks get a scene each before one gets a second.
    """
    rng = np.random.default_rng([seed, 0])
    sheets = rng.permutation(SHEETS)
    scenes = count / ACROSS**2
    weights = 1 / np.arange(1, 8 + int(scenes / SCENES_A_SHEET * 1.5)) ** 1.2
    left: dict[int, list[tuple[int, int, int]]] = {}
    while True:
        number = int(rng.choice(len(weights), p=weights / weights.sum()))
        # A sheet that is full leaves its share to a new one.
        while number in left and not left[number]:
            number += len(weights)
        if number not in left:
            left[number] = _parts(rng)
        yield (str(sheets[number]), *left[number].pop())


def _parts(rng: Rng) -> list[tuple[int, int, int]]:
    """Block, row and column of a sheet's scenes; the last one is to be taken first."""
    room, found = CELLS_ACROSS // SCENES, []
    for part in rng.permutation(SCENES**2).tolist():
        for block in rng.permutation(BLOCKS_ACROSS**2).tolist():
            row, column = rng.integers(0, room - ACROSS, 2).tolist()
            y, x = divmod(part, SCENES)
            found.append((block + 1, y * room + row, x * room + column))
    return found[::-1]


def make_scene(look: Style, side: int, rng: Rng) -> tuple[NDArray[np.uint8], Mask]:
    """A scene's picture, shape (3 side, 3 side, 3), and which of its pixels show a pool."""
    size = side * ACROSS
    # Small tiles are drawn larger and shrunk, as a camera would average.
    drawn = size * 3 // 2 if side <= 512 else size
    scene, pool = draw(look, METRES * ACROSS, drawn, rng)
    seen = np.asarray(_shrink(Image.fromarray(pool.astype(np.uint8) * 255), size)) > 127
    return photograph(scene, look, size, rng), seen


def photograph(scene: Array, look: Style, size: int, rng: Rng) -> NDArray[np.uint8]:
    """The scene as the sheet's camera took it: blur, haze, tint, sharpening and sensor noise."""
    grey = scene @ np.array([[0.3], [0.6], [0.1]], np.float32)
    colours = (grey + (scene - grey) * look.colourful) * look.tint
    hazy = colours * (1 - look.haze / 255) + look.haze
    image = _shrink(Image.fromarray(np.clip(hazy, 0, 255).astype(np.uint8)), size)
    # Per pixel of a small tile; a large one has the same photograph in more pixels.
    zoom = max(1.0, size / ACROSS / 512)
    image = image.filter(ImageFilter.GaussianBlur(look.blur * zoom))
    image = image.filter(ImageFilter.UnsharpMask(1.2 * zoom, round(100 * look.sharpen), 0))
    specks = np.stack([noise(rng, size, 1.7 * zoom) for _ in range(3)], 2)
    pixels = np.asarray(image) + look.grain / zoom**2 * specks
    exposed: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return exposed


def _shrink(image: Image.Image, size: int) -> Image.Image:
    """A picture at another size, each pixel the mean of what it covers."""
    return image.resize((size, size), Image.Resampling.BOX)


def _save(path: Path, pixels: NDArray[np.uint8], place: ImageFileDirectory_v2) -> None:
    image = Image.fromarray(pixels)
    if max(image.size) > 512:
        image.save(path, compression="tiff_lzw", tiffinfo=place)
    else:
        image.convert("YCbCr").save(path, compression="jpeg", quality=QUALITY, tiffinfo=place)
