"""Tiles that deviate from the typical one are found and described."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from capetown.imagery.reading import AS_STORED
from capetown.pools.dataset import drift
from capetown.pools.dataset.drift import TileProfile, TypicalProfile

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
TYPICAL = TypicalProfile(side=60, resolution=0.08, dark=False, grey=False)
PLAIN = TileProfile(60, 0.08, dark=False, grey=False)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"side": 90, "resolution": 0.12}, ""),
        ({"side": 30, "resolution": 0.0}, ""),
        ({"side": 91}, "91 pixels a side, not 60"),
        ({"side": 29}, "29 pixels a side, not 60"),
        ({"resolution": 0.3}, "0.3 on the ground a pixel, not 0.08"),
        ({"dark": True, "grey": True}, "nearly black"),
        ({"side": 20, "grey": True}, "grey, 20 pixels a side, not 60"),
    ],
)
def test_deviation(changed: dict[str, Any], expected: str) -> None:
    assert drift.deviation(PLAIN._replace(**changed), TYPICAL) == expected
    # Grey among grey tiles does not deviate, nor does an unknown typical resolution.
    typical = TYPICAL.model_copy(update={"grey": True, "resolution": 0.0})
    assert drift.deviation(PLAIN._replace(grey=True, resolution=5.0), typical) == ""


def test_the_typical_profile_has_medians_and_majorities() -> None:
    profiles = [
        TileProfile(100, 0.1, dark=False, grey=True),
        TileProfile(100, 0.2, dark=False, grey=True),
        TileProfile(400, 0.0, dark=True, grey=False),
    ]
    found = drift.typical_profile(profiles)
    assert (found.side, found.dark, found.grey) == (100, False, True)
    assert found.resolution == pytest.approx(0.15)
    assert drift.typical_profile(profiles[2:] * 2 + profiles[:2]).resolution == 0


def test_a_tile_is_dark_if_99_percent_of_its_values_are_and_grey_if_its_bands_are_equal() -> None:
    values = np.full(300, 15, np.uint8)
    for bright in range(5):
        values[:bright] = 16
        assert drift.profile_of(values.reshape(10, 10, 3), 10, 0).dark == (bright <= 3)
    assert not drift.profile_of(RGB, 60, 0).grey
    assert drift.profile_of(RGB[..., :1].repeat(3, 2), 60, 0).grey


def test_side_and_resolution_come_from_the_file() -> None:
    file, reduced = io.BytesIO(), io.BytesIO()
    scale = (33550, "d", 3, (0.08, 0.08, 0.0), True)
    tifffile.imwrite(file, RGB, photometric="rgb", extratags=[scale])
    assert drift.read_with_profile(file, AS_STORED)[1] == PLAIN
    original = {270: "reduced from 1250 x 800 pixels"}
    Image.fromarray(RGB).save(reduced, "TIFF", compression="jpeg", tiffinfo=original)
    assert drift.read_with_profile(reduced, AS_STORED)[1].side == 1250


def test_deviating_tiles_are_counted_and_the_first_are_described() -> None:
    grey, dark = PLAIN._replace(grey=True), PLAIN._replace(dark=True)
    profiles = [PLAIN, grey, dark, grey, *[PLAIN] * 5]
    assert drift.count_deviating("abcdefghi", profiles, first=2) == (
        3,
        "b (grey); c (nearly black)",
    )
    assert drift.count_deviating("a", [PLAIN]) == (0, "")
