"""Tiles that differ from the typical one in size, resolution or colour: a sign of drift."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import BinaryIO, NamedTuple

import numpy as np

from capetown.imagery.reading import read_raster, to_rgb
from capetown.imagery.tiff import Pixels
from capetown.params import BandRendering, Section

# A tile is nearly black if 99 % of its values, of 0 to 255, are below this one.
DARK = 16


class TileProfile(NamedTuple):
    """Properties of a tile that drift is measured by.

    Attributes:
        side: the longer side in pixels, before `download` downsampled the tile.
        resolution: side of a pixel on the ground, in the file's own unit; 0 if unknown.
        dark: True if the tile is nearly black.
        grey: True if its three bands are equal.
    """

    side: int
    resolution: float
    dark: bool
    grey: bool


class TypicalProfile(Section):
    """The typical profile of many tiles: medians and majorities; see `TileProfile`."""

    side: float
    resolution: float
    dark: bool
    grey: bool


def profile_of(pixels: Pixels, side: int, resolution: float) -> TileProfile:
    """The `TileProfile` of pixels: uint8, shape (height, width, 3)."""
    red, green, blue = (pixels[..., band] for band in range(3))
    grey = bool((red == green).all() and (red == blue).all())
    dark = 100 * int(np.count_nonzero(pixels < DARK)) >= 99 * pixels.size
    return TileProfile(side, resolution, dark, grey)


def typical_profile(profiles: Sequence[TileProfile]) -> TypicalProfile:
    """The typical profile of at least one tile."""
    known = [profile.resolution for profile in profiles if profile.resolution]
    return TypicalProfile(
        side=float(median(profile.side for profile in profiles)),
        resolution=float(median(known)) if 2 * len(known) > len(profiles) else 0.0,
        dark=2 * sum(profile.dark for profile in profiles) > len(profiles),
        grey=2 * sum(profile.grey for profile in profiles) > len(profiles),
    )


def deviation(profile: TileProfile, typical: TypicalProfile) -> str:
    """How a tile deviates from the typical one; empty if it does not."""
    found = []
    if profile.dark and not typical.dark:
        found.append("nearly black")
    if profile.grey and not typical.grey and not profile.dark:
        found.append("grey")
    if abs(profile.side - typical.side) > typical.side / 2:
        found.append(f"{profile.side} pixels a side, not {typical.side:g}")
    change = abs(profile.resolution - typical.resolution)
    if profile.resolution and change > typical.resolution / 2 > 0:
        found.append(f"{profile.resolution:g} on the ground a pixel, not {typical.resolution:g}")
    return ", ".join(found)


def count_deviating(
    paths: Iterable[str], profiles: Sequence[TileProfile], first: int = 3
) -> tuple[int, str]:
    """Count the tiles that deviate from the typical one, and describe the `first` few."""
    typical = typical_profile(profiles)
    found = zip(paths, [deviation(profile, typical) for profile in profiles], strict=True)
    described = [f"{path} ({how})" for path, how in found if how]
    return len(described), "; ".join(described[:first])


def read_with_profile(
    source: Path | BinaryIO, rendering: BandRendering
) -> tuple[Pixels, TileProfile]:
    """A tile as `read_tile` reads it, and its profile."""
    raster = read_raster(source)
    pixels = to_rgb(raster, rendering)
    return pixels, profile_of(pixels, raster.side or max(pixels.shape), raster.resolution)
