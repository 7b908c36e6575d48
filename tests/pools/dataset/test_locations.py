"""Names locate tiles if the pixels agree; a georeference comes first."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from capetown.city import CELLS_ACROSS, TILE_CRS
from capetown.imagery.georeference import Outline
from capetown.imagery.tiff import Pixels
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.locations import Locations, check_locations, locate_tiles
from capetown.pools.dataset.name_check import check_names, edges_of
from capetown.pools.dataset.neighbours import find_near
from capetown.pools.dataset.tile_names import bounds_of
from tests.imagery import geotiff

YES, NO = "images/swimming-pool/yes", "images/swimming-pool/no"
# Tiles a side of a picture that is cut into neighbours, and pixels a side of a tile.
ACROSS, SIDE = 14, 80


def picture(seed: int = 0) -> Pixels:
    """Coloured blobs of about six pixels, as wide as `ACROSS` tiles."""
    size = ACROSS * SIDE
    blobs = np.random.default_rng(seed).integers(0, 256, (size // 6, size // 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((size, size), Image.Resampling.BICUBIC))


def cut(whole: Pixels, side: int = SIDE) -> dict[tuple[int, int], Pixels]:
    """The tiles of a picture by row and column."""
    return {
        (row, column): whole[row * side :, column * side :][:side, :side]
        for row in range(ACROSS)
        for column in range(ACROSS)
    }


def name_at(row: int, column: int, order: str = "") -> str:
    """The name of the tile at a row and column of sheet W35A, if cells are counted in an order."""
    (block_row, row), (block_column, column) = divmod(row, 10), divmod(column, 10)
    if "south" in order:
        row = 9 - row
    if "east" in order:
        column = 9 - column
    if "column by" in order:
        row, column = column, row
    return f"W35A_{5 * block_row + block_column + 1}_{CELLS_ACROSS * row + column + 1}"


def photographed(tile: Pixels, number: int) -> Pixels:
    """Another light for each tile, one band, and JPEG's noise."""
    light = np.random.default_rng(number)
    lit = tile.mean(axis=2) * light.uniform(0.6, 1.2) + light.uniform(-30, 30)
    Image.fromarray(lit.clip(0, 255).astype(np.uint8)).save(file := BytesIO(), "jpeg", quality=60)
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize("order", [
    f"{way} by {way} from the {corner}"
    for way in ("row", "column")
    for corner in ("north-west", "north-east", "south-west", "south-east")
])  # fmt: skip
def test_the_order_of_cells_is_found_in_the_pixels(order: str) -> None:
    tiles = cut(picture())
    bounds = [found for at in tiles if (found := bounds_of(f"{name_at(*at, order)}.tif"))]
    edges = [edges_of(photographed(tile, n)) for n, tile in enumerate(tiles.values())]
    check = check_names(bounds, edges, 0)
    named = order == "row by row from the north-west"
    assert (check.better, check.verdict) == (("", "match") if named else (order, "mismatch"))
    assert check.better_fit.share > 0.9
    # A mirrored order leaves half of the neighbours together.
    assert check.neighbours.share > 0.9 if named else check.neighbours.share < 0.66
    assert check.random.share < 0.1
    assert str(check).endswith(f"{check.random} random pairs")


@pytest.mark.parametrize("case", ["flat", "small", "few"])
def test_pixels_that_cannot_tell_leave_names_unconfirmed(case: str) -> None:
    """Water is flat; tiles of fewer than 64 pixels are too coarse."""
    tiles = cut(picture()[::2, ::2], SIDE // 2) if case == "small" else cut(picture())
    if case == "flat":
        tiles = {at: np.full_like(tile, 90) for at, tile in tiles.items()}
    if case == "few":
        tiles = {at: tiles[at] for at in [(0, 0), (0, 1), (1, 0), (5, 5)]}
    bounds = [found for at in tiles if (found := bounds_of(name_at(*at)))]
    check = check_names(bounds, [edges_of(tile) for tile in tiles.values()], 0)
    assert check.verdict == "unknown"
    assert f"only {2 if case == 'few' else 0} pairs" in check.warning()


def test_names_that_do_not_fit_give_no_location() -> None:
    tiles = cut(picture())
    shuffled = np.random.default_rng(1).permutation(len(tiles)).tolist()
    listed = [Tile(f"{YES}/{name_at(*at)}.tif", "yes", "W35A") for at in tiles]
    known = Locations([Outline(np.zeros((4, 2)), 18, -34)] * len(tiles), ["name"] * len(tiles), [])
    known = replace(known, sources=["georeference", *known.sources[1:]])
    edges = [edges_of(tile) for tile in tiles.values()]
    kept, check = check_locations(listed, known, edges, 0)
    assert (kept, check and check.verdict) == (known, "match")
    left, check = check_locations(listed, known, [edges[n] for n in shuffled], 0)
    assert check
    assert (check.verdict, check.better) == ("mismatch", "")
    assert left.counts() == {"georeference": 1, "name": 0}
    assert [place is None for place in left.outlines] == [False] + [True] * (len(tiles) - 1)
    assert "do not fit the pixels" in left.notes[0]


def write(root: Path, path: str, shape: tuple[int, int] = (40, 40)) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(root / path)


def tiles_at(paths: Sequence[str]) -> list[Tile]:
    return [Tile(path, "yes", "") for path in paths]


def test_a_tile_without_georeference_lies_where_its_name_says(tmp_path: Path) -> None:
    paths = [f"{YES}/W35A_7_58.tif", f"{YES}/old/W35A_7_58.tif", f"{NO}/W35A_7_59.tif",
             f"{NO}/nice_0001.tif", f"{NO}/W35A_26_1.tif", f"{NO}/W35A_7_60.tif"]  # fmt: skip
    for path in paths[:-1]:
        write(tmp_path, path)
    write(tmp_path, paths[-1], (40, 30))
    found = locate_tiles(tiles_at(paths), tmp_path)
    assert found.sources == ["name", "name", "name", "", "", ""]
    first, copy, right = (place for place in found.outlines if place)
    assert (first.longitude, first.latitude) == pytest.approx((18.5865, -33.8901), abs=5e-5)
    assert (copy.corners == first.corners).all()
    assert right.corners[:2] == pytest.approx(first.corners[[3, 2]], abs=1e-7)
    assert found.errors[:5] == [""] * 5
    assert "shape" in found.errors[5]
    unusable, copies = found.notes
    assert unusable.startswith("1 of 6 tiles have no usable location, such as " + paths[5])
    assert copies.startswith("2 of 6 tiles share their name, so their location")
    assert paths[0] in copies


def test_a_georeference_counts_more_than_the_name(tmp_path: Path) -> None:
    """Only the first is where its name says. The third has 200 m a side."""
    bounds = bounds_of("W35A_7_58")
    assert bounds
    paths = [f"{YES}/W35A_7_{cell}.tif" for cell in (58, 55, 48)]
    (tmp_path / YES).mkdir(parents=True)
    for path, metres in zip(paths, (100, 100, 200), strict=True):
        place = Affine(metres / 40, 0, bounds.left, 0, -metres / 40, bounds.top)
        geotiff(tmp_path / path, np.zeros((40, 40, 3), np.uint8), crs=TILE_CRS, transform=place)
    found = locate_tiles(tiles_at(paths), tmp_path)
    assert found.sources == ["georeference"] * 3
    contradicts, size = found.notes
    assert contradicts.startswith("2 of 3 tiles have a georeference that contradicts their name")
    assert f"{paths[1]} (300 m apart)" in contradicts
    assert size == f"1 of 3 tiles are not 100 m a side, such as {paths[2]} (200 m)"


def test_near_tiles_are_found_across_zones_of_utm() -> None:
    """At the equator a thousandth of a degree is 111 m; zone 31 ends at 6 degrees."""

    def square(west: float) -> Outline:
        corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)]) / 1000 + (west, 0)
        return Outline(corners, west + 0.0005, 0.0005)

    places = [square(west) for west in (5.998, 5.999, 6.001, 6.01, -170)]
    assert find_near(places, [1], 100) == {0, 1}
    assert find_near(places, [1], 112) == {0, 1, 2}
    assert find_near(places, [1, 4], 1200) == {0, 1, 2, 3, 4}
