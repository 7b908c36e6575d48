"""Orthophotos are cut by their scale, and a window is read like a tile."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from capetown.imagery.reading import AS_STORED, UnreadableTileError, read_tile, to_rgb
from capetown.imagery.tile_ref import TileRef, Window
from capetown.imagery.windows import Tiling, open_image, starts, windows_of
from tests.imagery import ORTHO, WEST, geotiff


def cut(path: Path, **how: float) -> list[TileRef]:
    grid = windows_of(TileRef(path.name, str(path)), Tiling(**how))  # type: ignore[arg-type]
    return [grid.tile(number) for number in range(len(grid))]


@given(st.integers(1, 5000), st.integers(1, 500), st.floats(0, 0.9))
def test_windows_cover_an_image_evenly_and_overlap_enough(
    length: int, side: int, overlap: float
) -> None:
    found = starts(length, side, overlap)
    assert found[0] == 0
    assert found[-1] + side == max(length, side)
    steps = np.diff(found)
    assert (steps <= max(1, side * (1 - overlap))).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_windows_have_the_given_size_in_metres_or_pixels(tmp_path: Path) -> None:
    """A degree of longitude is 92.4 km at Cape Town, one of latitude 110.9."""
    degrees = Affine(2.5 / 92_400, 0, 18.5, 0, -2.5 / 110_900, -33.9)
    image = geotiff(tmp_path / "ortho.tif", ORTHO, crs="EPSG:4326", transform=degrees)
    assert cut(image, metres=100)[4].window == (40, 30, 40, 40)
    Image.fromarray(ORTHO).save(tmp_path / "plain.png")
    found = [tile.window for tile in cut(tmp_path / "plain.png", pixels=50, overlap=0.5)]
    assert found[:4] == [(round(70 / 3 * n), 0, 50, 50) for n in range(4)]
    assert found[4] == (0, 25, 50, 50)


def test_an_image_that_cannot_be_cut_says_why(tmp_path: Path) -> None:
    Image.fromarray(ORTHO).save(tmp_path / "plain.png")
    geotiff(tmp_path / "local.tif", crs='LOCAL_CS["the mason\'s",UNIT["metre",1]]')
    geotiff(tmp_path / "none.tif", crs=None)
    geotiff(tmp_path / "fine.tif", transform=Affine(0.001, 0, WEST, 0, -0.001, 0))
    (tmp_path / "damaged.tif").write_bytes((tmp_path / "none.tif").read_bytes()[:100])
    for name, reasons in {
        "plain.png": ["--tile-pixels"],
        "local.tif": ["the mason's", "--tile-pixels"],
        "none.tif": ["--crs"],
        "fine.tif": ["100000 x 100000 pixels"],
        "damaged.tif": ["cannot be opened"],
        "gone.tif": ["cannot be opened", "No such file"],
    }.items():
        [tile] = cut(tmp_path / name, metres=100)
        assert [reason for reason in reasons if reason not in tile.error] == [], name


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.dstack([ORTHO, ORTHO[..., :1]]), ""),
        (ORTHO.astype(np.uint16) * 257, ""),
        (ORTHO[..., :1], ""),
        (ORTHO.astype(np.uint16) * 16, "4080"),
        (ORTHO[..., :2], "2 bands"),
        (ORTHO.astype(np.float32), "float32"),
    ],
)
def test_a_window_is_read_like_a_tile(pixels: np.ndarray, reason: str, tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", pixels)
    with open_image(TileRef("a.tif", str(path))) as image:
        raster = image.read(Window(0, 0, 120, 100))
    if reason:
        with pytest.raises(UnreadableTileError, match=reason):
            to_rgb(raster, AS_STORED)
    else:
        np.testing.assert_array_equal(to_rgb(raster, AS_STORED), read_tile(path))
