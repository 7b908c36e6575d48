"""Tiles unlike the others, or unlike those that a model learned from: what a model may not know."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, median_low
from typing import BinaryIO, NamedTuple

import numpy as np

from capetown.imagery.reading import read_raster, to_rgb
from capetown.imagery.tiff import Pixels
from capetown.params import BandRendering, Section

# Of 255: below it 99 of 100 values of a tile lie that is nearly black.
DARK = 16


class TileProfile(NamedTuple):
    """A tile at a glance.

    Attributes:
        side: its longer one, in pixels, before it was reduced for keeping.
        resolution: side of a pixel on the ground, in the file's own unit; 0 if it does not say.
        dark: True if it is nearly black.
        grey: True if its three bands are equal.
        reduced: its longer side, in pixels, if it was reduced for keeping; 0 if it was not.
    """

    side: int
    resolution: float
    dark: bool
    grey: bool
    reduced: int = 0


class TypicalProfile(Section):
    """The usual look of tiles; see `Look`."""

    side: float
    resolution: float
    dark: bool
    grey: bool
    reduced: int = 0


def profile_of(pixels: Pixels, side: int, resolution: float) -> TileProfile:
    """A tile at a glance.

    Args:
        pixels: uint8, shape (height, width, 3).
        side: as in `Look`.
        resolution: likewise.
    """
    red, green, blue = (pixels[..., band] for band in range(3))
    grey = bool((red == green).all() and (red == blue).all())
    kept = max(pixels.shape[:2])
    dark = 100 * int(np.count_nonzero(pixels < DARK)) >= 99 * pixels.size
    return TileProfile(side, resolution, dark, grey, kept if kept < side else 0)


def typical_profile(looks: Sequence[TileProfile]) -> TypicalProfile:
    """The usual look of some tiles: medians, and what more than half are."""
    known = [look.resolution for look in looks if look.resolution]
    return TypicalProfile(
        side=float(median(look.side for look in looks)),
        resolution=float(median(known)) if 2 * len(known) > len(looks) else 0.0,
        dark=2 * sum(look.dark for look in looks) > len(looks),
        grey=2 * sum(look.grey for look in looks) > len(looks),
        reduced=median_low(look.reduced for look in looks),
    )


def deviation(look: TileProfile, most: TypicalProfile) -> str:
    """The difference of a tile from most; empty if it does not."""
    said = []
    if look.dark and not most.dark:
        said.append("nearly black")
    if look.grey and not most.grey and not look.dark:
        said.append("grey")
    if abs(look.side - most.side) > most.side / 2:
        said.append(f"{look.side} pixels a side, not {most.side:g}")
    if look.resolution and abs(look.resolution - most.resolution) > most.resolution / 2 > 0:
        said.append(f"{look.resolution:g} on the ground a pixel, not {most.resolution:g}")
    return ", ".join(said)


def deviations(looks: Mapping[str, TileProfile]) -> dict[str, str]:
    """The difference of each tile from most of them, by path; empty where there is none."""
    most = typical_profile(list(looks.values()))
    return {path: deviation(look, most) for path, look in looks.items()}


def count_deviating(deviations: Mapping[str, str], first: int = 3) -> tuple[int, str]:
    """The number of tiles that differ, and the first of them with how.

    Args:
        differences: by path; empty where there is none.
        first: how many to name.
    """
    odd = [f"{path} ({said})" for path, said in deviations.items() if said]
    return len(odd), "; ".join(odd[:first])


def read_with_profile(source: Path | BinaryIO, rule: BandRendering) -> tuple[Pixels, TileProfile]:
    """A tile as `read_tile` gives it, and what it looks like at a glance."""
    raster = read_raster(source)
    pixels = to_rgb(raster, rule)
    return pixels, profile_of(pixels, raster.side or max(pixels.shape), raster.resolution)
