"""Tiles unlike the others are told from the others, and how."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from capetown.pools.tiles.reading import AS_THEY_ARE, Pixels, Tile, look_at, look_at_tiles
from capetown.pools.tiles.unlike import Look, Usual, count_unlike, difference, look_of, usual

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
MOST = Usual(side=60, resolution=0.08, dark=False, grey=False)


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (Look(60, 0.08, dark=False, grey=False), ""),
        (Look(90, 0.12, dark=False, grey=False), ""),
        (Look(30, 0.0, dark=False, grey=False), ""),
        (Look(91, 0.0, dark=False, grey=False), "91 pixels a side, not 60"),
        (Look(29, 0.0, dark=False, grey=False), "29 pixels a side, not 60"),
        (Look(60, 0.3, dark=False, grey=False), "0.3 on the ground a pixel, not 0.08"),
        (Look(60, 0.0, dark=True, grey=True), "nearly black"),
        (Look(20, 0.0, dark=False, grey=True), "grey, 20 pixels a side, not 60"),
    ],
)
def test_a_difference_is_said(look: Look, said: str) -> None:
    assert difference(look, MOST) == said


def test_grey_among_grey_tiles_and_an_unknown_scale_are_no_difference() -> None:
    most = Usual(side=60, resolution=0.0, dark=False, grey=True)
    assert difference(Look(60, 5.0, dark=False, grey=True), most) == ""


def test_most_is_the_median_and_what_more_than_half_are() -> None:
    looks = [
        Look(100, 0.1, dark=False, grey=True),
        Look(100, 0.2, dark=False, grey=True),
        Look(400, 0.0, dark=True, grey=False),
    ]
    found = usual(looks)
    assert (found.side, found.dark, found.grey) == (100, False, True)
    assert found.resolution == pytest.approx(0.15)
    assert usual(looks[2:] * 2 + looks[:2]).resolution == 0
    assert found.reduced == 0
    kept = [look._replace(reduced=640) for look in looks]
    assert usual(kept[:2] + looks[2:]).reduced == 640
    assert usual(kept[:1] + looks[1:]).reduced == 0


def test_a_glance_is_at_the_pixels() -> None:
    assert look_of(RGB, 60, 0) == Look(60, 0, dark=False, grey=False)
    assert look_of(RGB[..., :1].repeat(3, 2), 60, 0) == Look(60, 0, dark=False, grey=True)
    black = np.full_like(RGB, 5)
    black[0, 0] = (255, 0, 0)
    assert look_of(black, 60, 0) == Look(60, 0, dark=True, grey=False)


@pytest.mark.parametrize(("bright", "dark"), [(3, True), (4, False)])
def test_nearly_black_is_dark_in_99_of_100_values(bright: int, dark: bool) -> None:
    values = np.full(300, 15, np.uint8)
    values[:bright] = 16
    assert look_of(values.reshape(10, 10, 3), 10, 0).dark is dark


def test_size_and_scale_are_the_files_own() -> None:
    file = io.BytesIO()
    scale = (33550, "d", 3, (0.08, 0.08, 0.0), True)
    tifffile.imwrite(file, RGB, photometric="rgb", extratags=[scale])
    assert look_at(file, AS_THEY_ARE)[1] == Look(60, 0.08, dark=False, grey=False)
    reduced = io.BytesIO()
    Image.fromarray(RGB).save(
        reduced, "TIFF", compression="jpeg", tiffinfo={270: "reduced from 1250 x 800 pixels"}
    )
    assert look_at(reduced, AS_THEY_ARE)[1].side == 1250


def test_tiles_are_looked_at_and_handed_on_while_they_are_read(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"")
    tiles = [Tile("b.tif", "no", "b"), Tile("a.tif", "no", "a")]
    kept: dict[int, Pixels] = {}
    found, reasons = look_at_tiles(tiles, tmp_path, AS_THEY_ARE, kept.__setitem__)
    assert found[tiles[1]][1] == Look(60, 0, dark=False, grey=False)
    assert reasons == {tiles[0]: "empty: 0 bytes."}
    assert list(kept) == [1]
    assert (kept[1] == RGB).all()


def test_the_first_are_named() -> None:
    odd = {"a": "", "b": "grey", "c": "nearly black", "d": "grey", "e": "grey"}
    assert count_unlike(odd, first=2) == (4, "b (grey); c (nearly black)")
    assert count_unlike({"a": ""}) == (0, "")
