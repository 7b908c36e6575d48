"""The sample bucket's tiles: the City's names, one scene across neighbours, pools of its size."""

import re
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform
from scipy import ndimage

from capetown.city import CELLS_ACROSS
from tools.synthetic.tiles import ACROSS, Cut, cuts, places, write_tiles

SIDE = 192
NAME = re.compile(r"([A-Z]\d\d[A-D])_(\d+)_(\d+)\.tif")


@pytest.fixture(scope="module")
def scenes() -> list[list[Cut]]:
    """The tiles of the first five scenes, each row by row."""
    tiles = list(islice(cuts(320, 42, SIDE), 5 * ACROSS**2))
    return [tiles[i : i + ACROSS**2] for i in range(0, len(tiles), ACROSS**2)]


def test_a_scenes_tiles_are_neighbours_in_one_block(scenes: list[list[Cut]]) -> None:
    for scene in scenes:
        places_of = [NAME.fullmatch(cut.name) for cut in scene]
        assert len({found.group(1, 2) for found in places_of if found}) == 1
        cells = [int(found[3]) - 1 for found in places_of if found]
        first = cells[0]
        assert cells == [first + y * CELLS_ACROSS + x for y in range(3) for x in range(3)]
        assert first % CELLS_ACROSS + 2 < CELLS_ACROSS
        assert cells[-1] < CELLS_ACROSS**2


def test_neighbours_continue_each_other(scenes: list[list[Cut]]) -> None:
    """Across an edge pixels differ no more than within; a tile two further on differs more."""
    for scene in scenes:
        pixels = [cut.pixels.astype(float) for cut in scene]
        joins = np.mean([np.abs(pixels[i][:, -1] - pixels[i + 1][:, 0]) for i in (0, 3, 6)])
        within = np.mean([np.abs(tile[:, -2] - tile[:, -1]) for tile in pixels])
        apart = np.mean([np.abs(pixels[i][:, -1] - pixels[i + 2][:, 0]) for i in (0, 3, 6)])
        assert joins < 1.5 * within < apart
    # Some pools are cut at edges.
    pairs = [(s[i].pool[:, -1], s[i + 1].pool[:, 0]) for s in scenes for i in (0, 3, 6)]
    assert any((left & right).any() for left, right in pairs)


def test_pools_have_the_size_of_real_ones(scenes: list[list[Cut]]) -> None:
    """Across, 3 to 12 % of the side, 6 % in the middle; trees and edges hide parts of some."""
    sizes = []
    for cut in chain.from_iterable(scenes):
        labelled, _ = ndimage.label(cut.pool)
        for rows, columns in ndimage.find_objects(labelled):
            across = (rows.stop - rows.start + columns.stop - columns.start) / 2 / SIDE
            inside = rows.start and columns.start and rows.stop < SIDE and columns.stop < SIDE
            if inside and across > 0.025:
                sizes.append(across)
    low, middle, high = np.percentile(sizes, [5, 50, 95])
    assert len(sizes) > 40
    assert 0.025 < low < 0.045
    assert 0.05 < middle < 0.07
    assert 0.08 < high < 0.13


def test_a_few_sheets_have_most_tiles_and_no_cell_comes_twice() -> None:
    scenes = list(islice(places(7_043, 42), 7_043 // ACROSS**2))
    sheets = Counter(sheet for sheet, *_ in scenes).most_common()
    assert len(sheets) < 25
    assert sum(count for _, count in sheets[:7]) > len(scenes) / 2
    assert sheets[0][1] > 5 * sheets[-1][1]
    cells = Counter(
        (sheet, block, row + y, column + x)
        for sheet, block, row, column in scenes
        for y in range(ACROSS)
        for x in range(ACROSS)
    )
    assert max(cells.values()) == 1
    # A cell's right and lower neighbours are its own scene's, or not there.
    for sheet, block, row, column in scenes:
        assert 1 <= block <= 25
        for step in range(ACROSS):
            assert (sheet, block, row + step, column + ACROSS) not in cells
            assert (sheet, block, row + ACROSS, column + step) not in cells
        assert row + ACROSS < CELLS_ACROSS
        assert column + ACROSS < CELLS_ACROSS


def test_tiles_are_written_as_the_citys(tmp_path: Path) -> None:
    write_tiles(tmp_path, 12, 3, 128)
    home = tmp_path / "images" / "swimming-pool"
    for label, number in (("yes", 8), ("no", 4)):
        names = sorted(path.name for path in (home / label).glob("*.tif"))
        assert len(names) == number
        assert all(NAME.fullmatch(name) for name in names)
        assert (home / label / "manifest").read_text().splitlines() == names
        with Image.open(home / label / names[0]) as image:
            assert (image.size, image.info["compression"]) == ((128, 128), "jpeg")
    write_tiles(tmp_path / "again", 12, 3, 128)
    for path in home.rglob("*"):
        twin = tmp_path / "again" / path.relative_to(tmp_path)
        assert path.is_dir() or twin.read_bytes() == path.read_bytes()


def test_georeferenced_tiles_are_the_same_pictures_in_the_metro(tmp_path: Path) -> None:
    """Of 100 m a side, where their names say within the sheet, and no two in one place."""
    write_tiles(tmp_path / "plain", 30, 3, 64)
    write_tiles(tmp_path / "placed", 30, 3, 64, georeferenced=True)
    boxes = set()
    for path in (tmp_path / "placed").rglob("*.tif"):
        twin = tmp_path / "plain" / path.relative_to(tmp_path / "placed")
        with rasterio.open(path) as placed, Image.open(twin) as plain:
            assert placed.crs.to_epsg() == 32734
            assert (np.moveaxis(placed.read(), 0, 2) == np.asarray(plain.convert("RGB"))).all()
            west, south, east, north = placed.bounds
        boxes.add((west, north))
        block, cell = (int(number) - 1 for number in path.stem.split("_")[1:])
        assert (east - west, north - south) == (100, 100)
        assert (west % 1000, -north % 1000) == (cell % 10 * 100, cell // 10 * 100)
        assert (west // 1000 % 5, -north // 1000 % 5) == (block % 5, block // 5)
        [longitude], [latitude] = transform(32734, "OGC:CRS84", [west], [north])
        assert 18.3 < longitude < 19.0
        assert -34.4 < latitude < -33.4
    assert len(boxes) == 30
