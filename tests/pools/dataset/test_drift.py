"""Tiles that deviate from the typical one are found and described."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from capetown.imagery.reading import AS_STORED
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
TYPICAL = TypicalProfile(side=60, resolution=0.08, dark=False, grey=False)
PLAIN = TileProfile(60, 0.08, dark=False, grey=False)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (PLAIN, ""),
        (PLAIN._replace(side=90, resolution=0.12), ""),
        (PLAIN._replace(side=30, resolution=0.0), ""),
        (PLAIN._replace(side=91), "91 pixels a side, not 60"),
        (PLAIN._replace(side=29), "29 pixels a side, not 60"),
        (PLAIN._replace(resolution=0.3), "0.3 on the ground a pixel, not 0.08"),
        (PLAIN._replace(dark=True, grey=True), "nearly black"),
        (PLAIN._replace(side=20, grey=True), "grey, 20 pixels a side, not 60"),
    ],
)
def test_deviation(profile: TileProfile, expected: str) -> None:
    assert deviation(profile, TYPICAL) == expected


def test_grey_among_grey_tiles_and_an_unknown_resolution_are_no_deviation() -> None:
    typical = TYPICAL.model_copy(update={"grey": True, "resolution": 0.0})
    assert deviation(PLAIN._replace(grey=True, resolution=5.0), typical) == ""


def test_the_typical_profile_has_medians_and_majorities() -> None:
    profiles = [
        TileProfile(100, 0.1, dark=False, grey=True),
        TileProfile(100, 0.2, dark=False, grey=True),
        TileProfile(400, 0.0, dark=True, grey=False),
    ]
    found = typical_profile(profiles)
    assert (found.side, found.dark, found.grey) == (100, False, True)
    assert found.resolution == pytest.approx(0.15)
    assert typical_profile(profiles[2:] * 2 + profiles[:2]).resolution == 0


@pytest.mark.parametrize(("bright", "dark"), [(3, True), (4, False)])
def test_a_tile_is_dark_if_99_percent_of_its_values_are(bright: int, dark: bool) -> None:
    values = np.full(300, 15, np.uint8)
    values[:bright] = 16
    assert profile_of(values.reshape(10, 10, 3), 10, 0).dark is dark


def test_a_tile_is_grey_if_its_bands_are_equal() -> None:
    assert not profile_of(RGB, 60, 0).grey
    assert profile_of(RGB[..., :1].repeat(3, 2), 60, 0).grey


def test_side_and_resolution_come_from_the_file() -> None:
    file, reduced = io.BytesIO(), io.BytesIO()
    scale = (33550, "d", 3, (0.08, 0.08, 0.0), True)
    tifffile.imwrite(file, RGB, photometric="rgb", extratags=[scale])
    assert read_with_profile(file, AS_STORED)[1] == PLAIN
    original = {270: "reduced from 1250 x 800 pixels"}
    Image.fromarray(RGB).save(reduced, "TIFF", compression="jpeg", tiffinfo=original)
    assert read_with_profile(reduced, AS_STORED)[1].side == 1250


def test_readable_tiles_are_profiled_and_others_have_a_reason(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"")
    empty, tile = Tile("b.tif", "no", "b"), Tile("a.tif", "no", "a")
    found, reasons = profile_tiles([empty, tile], tmp_path, AS_STORED)
    assert found[tile][1] == PLAIN._replace(resolution=0)
    assert list(found) == [tile]
    assert list(reasons) == [empty]


def test_deviating_tiles_are_counted_and_the_first_are_described() -> None:
    grey = PLAIN._replace(grey=True)
    profiles = dict.fromkeys("aefghi", PLAIN) | {
        "b": grey,
        "c": PLAIN._replace(dark=True),
        "d": grey,
    }
    assert count_deviating(profiles, first=2) == (3, "b (grey); c (nearly black)")
    assert count_deviating({"a": PLAIN}) == (0, "")
