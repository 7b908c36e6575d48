"""Tiles unlike the others are told from the others, and how."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from capetown.imagery.reading import AS_STORED, Pixels
from capetown.pools.dataset.drift import (
    TileProfile,
    TypicalProfile,
    count_deviating,
    deviation,
    profile_of,
    read_with_profile,
    typical_profile,
)
from capetown.pools.dataset.listing import Tile, profile_tiles

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
MOST = TypicalProfile(side=60, resolution=0.08, dark=False, grey=False)


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (TileProfile(60, 0.08, dark=False, grey=False), ""),
        (TileProfile(90, 0.12, dark=False, grey=False), ""),
        (TileProfile(30, 0.0, dark=False, grey=False), ""),
        (TileProfile(91, 0.0, dark=False, grey=False), "91 pixels a side, not 60"),
        (TileProfile(29, 0.0, dark=False, grey=False), "29 pixels a side, not 60"),
        (TileProfile(60, 0.3, dark=False, grey=False), "0.3 on the ground a pixel, not 0.08"),
        (TileProfile(60, 0.0, dark=True, grey=True), "nearly black"),
        (TileProfile(20, 0.0, dark=False, grey=True), "grey, 20 pixels a side, not 60"),
    ],
)
def test_a_difference_is_said(look: TileProfile, said: str) -> None:
    assert deviation(look, MOST) == said


def test_grey_among_grey_tiles_and_an_unknown_scale_are_no_difference() -> None:
    most = TypicalProfile(side=60, resolution=0.0, dark=False, grey=True)
    assert deviation(TileProfile(60, 5.0, dark=False, grey=True), most) == ""


def test_most_is_the_median_and_what_more_than_half_are() -> None:
    looks = [
        TileProfile(100, 0.1, dark=False, grey=True),
        TileProfile(100, 0.2, dark=False, grey=True),
        TileProfile(400, 0.0, dark=True, grey=False),
    ]
    found = typical_profile(looks)
    assert (found.side, found.dark, found.grey) == (100, False, True)
    assert found.resolution == pytest.approx(0.15)
    assert typical_profile(looks[2:] * 2 + looks[:2]).resolution == 0
    assert found.reduced == 0
    kept = [look._replace(reduced=640) for look in looks]
    assert typical_profile(kept[:2] + looks[2:]).reduced == 640
    assert typical_profile(kept[:1] + looks[1:]).reduced == 0


def test_a_glance_is_at_the_pixels() -> None:
    assert profile_of(RGB, 60, 0) == TileProfile(60, 0, dark=False, grey=False)
    assert profile_of(RGB[..., :1].repeat(3, 2), 60, 0) == TileProfile(60, 0, dark=False, grey=True)
    black = np.full_like(RGB, 5)
    black[0, 0] = (255, 0, 0)
    assert profile_of(black, 60, 0) == TileProfile(60, 0, dark=True, grey=False)


@pytest.mark.parametrize(("bright", "dark"), [(3, True), (4, False)])
def test_nearly_black_is_dark_in_99_of_100_values(bright: int, dark: bool) -> None:
    values = np.full(300, 15, np.uint8)
    values[:bright] = 16
    assert profile_of(values.reshape(10, 10, 3), 10, 0).dark is dark


def test_size_and_scale_are_the_files_own() -> None:
    file = io.BytesIO()
    scale = (33550, "d", 3, (0.08, 0.08, 0.0), True)
    tifffile.imwrite(file, RGB, photometric="rgb", extratags=[scale])
    assert read_with_profile(file, AS_STORED)[1] == TileProfile(60, 0.08, dark=False, grey=False)
    reduced = io.BytesIO()
    Image.fromarray(RGB).save(
        reduced, "TIFF", compression="jpeg", tiffinfo={270: "reduced from 1250 x 800 pixels"}
    )
    assert read_with_profile(reduced, AS_STORED)[1].side == 1250


def test_tiles_are_looked_at_and_handed_on_while_they_are_read(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"")
    tiles = [Tile("b.tif", "no", "b"), Tile("a.tif", "no", "a")]
    kept: dict[int, Pixels] = {}
    found, reasons = profile_tiles(tiles, tmp_path, AS_STORED, kept.__setitem__)
    assert found[tiles[1]][1] == TileProfile(60, 0, dark=False, grey=False)
    assert reasons == {tiles[0]: "empty: 0 bytes"}
    assert list(kept) == [1]
    assert (kept[1] == RGB).all()


def test_the_first_are_named() -> None:
    odd = {"a": "", "b": "grey", "c": "nearly black", "d": "grey", "e": "grey"}
    assert count_deviating(odd, first=2) == (4, "b (grey); c (nearly black)")
    assert count_deviating({"a": ""}) == (0, "")
