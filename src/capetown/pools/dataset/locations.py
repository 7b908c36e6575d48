"""Where labelled tiles lie: by their georeference, else by their name."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from pathlib import Path, PurePosixPath
from typing import Literal

import pyproj

from capetown.city import TILE_METRES
from capetown.errors import CapetownError
from capetown.imagery.georeference import WGS84, Outline, outline
from capetown.imagery.tile_ref import Sidecars, TileRef, find_sidecars
from capetown.imagery.windows import open_image
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.name_check import Edges, NameCheck, check_names
from capetown.pools.dataset.tile_names import bounds_of, georeference_by_name

# What a location comes from; empty without one.
Source = Literal["georeference", "name", ""]
SOURCES: tuple[Source, ...] = ("georeference", "name")
# The largest relative difference of a tile's side on the ground from the usual one.
TOLERANCE = 0.1
EARTH = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True)
class Locations:
    """Where tiles are, and why not: in the order of the tiles.

    Attributes:
        outlines: None for a tile without a location.
        sources: what the location comes from.
        errors: why a tile with a georeference or a name has no location; else empty.
        notes: what is odd about locations, one line for each kind.
    """

    outlines: Sequence[Outline | None]
    sources: Sequence[Source]
    errors: Sequence[str]
    notes: Sequence[str] = ()

    def without_names(self) -> "Locations":
        """These locations without those that come from names."""
        both = zip(self.outlines, self.sources, strict=True)
        return replace(
            self,
            outlines=[None if source == "name" else place for place, source in both],
            sources=["" if source == "name" else source for source in self.sources],
        )

    def counts(self) -> dict[str, int]:
        """The number of tiles located by each source."""
        found = Counter(self.sources)
        return {source: found[source] for source in SOURCES}


def locate_tiles(tiles: Sequence[Tile], root: Path) -> Locations:
    """Locate tiles with all cores. Their paths are relative to `root`.

    Like `predict`, this takes GeoTIFF tags, ``.aux.xml`` files and world files with a CRS. A tile
    without any of them gets the location in its name. A georeference that cannot be used is an
    error: the name does not replace it.
    """
    folders = {(root / tile.path).parent for tile in tiles}
    names = [str(path) for folder in folders for path in folder.iterdir()]
    files = {name.lower(): name for name in names} | {name: name for name in names}

    def locate(tile: Tile) -> tuple[Outline | None, Source, str, float]:
        path = str(root / tile.path)
        beside = Sidecars(*(name or "" for name in find_sidecars(path, files)))
        try:
            with open_image(TileRef(path, path, sidecars=beside)) as image:
                place = image.place("")
                size = image.dataset.width, image.dataset.height
            if place:
                found = outline(place, *size)
                return found, "georeference", "", _metres_from_name(tile.path, found)
            named = georeference_by_name(tile.path, *size)
            return (outline(named, *size), "name", "", 0) if named else (None, "", "", 0)
        except CapetownError as error:
            return None, "", error.what, 0

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(locate, tiles))
    outlines, sources, errors, apart = (
        [row[0] for row in found], [row[1] for row in found],
        [row[2] for row in found], [row[3] for row in found],
    )  # fmt: skip
    paths = [tile.path for tile in tiles]
    return Locations(outlines, sources, errors, _notes(paths, outlines, sources, errors, apart))


def _metres_from_name(path: str, found: Outline) -> float:
    """Metres from the centre of an outline to that of the tile in the file's name, if any."""
    if not (bounds := bounds_of(path)):
        return 0
    size = bounds.right - bounds.left, bounds.top - bounds.bottom
    named = georeference_by_name(path, *size)
    assert named
    other = outline(named, *size)
    metres: float = EARTH.inv(found.longitude, found.latitude, other.longitude, other.latitude)[2]
    return metres


def _notes(
    paths: Sequence[str], outlines: Sequence[Outline | None], sources: Sequence[Source],
    errors: Sequence[str], apart: Sequence[float],
) -> list[str]:  # fmt: skip
    """Each kind of oddity with the number of tiles and the first one."""
    by_name = [source == "name" for source in sources]
    stems = [PurePosixPath(path).stem for path in paths]
    copies = Counter(stem for stem, named in zip(stems, by_name, strict=True) if named)
    sides = [
        sqrt(abs(EARTH.polygon_area_perimeter(*o.corners.T)[0])) if o and not named else TILE_METRES
        for o, named in zip(outlines, by_name, strict=True)
    ]
    kinds = [
        ("have no usable location", [*errors]),
        ("have a georeference that contradicts their name, and it counts",
         [f"{metres:,.0f} m apart" if metres > TILE_METRES else "" for metres in apart]),
        (f"are not {TILE_METRES} m a side",
         [f"{side:.4g} m" if abs(side / TILE_METRES - 1) > TOLERANCE else "" for side in sides]),
        ("share their name, so their location, with another tile",
         [f"{copies[s]} times" if n and copies[s] > 1 else ""
          for s, n in zip(stems, by_name, strict=True)]),
    ]  # fmt: skip
    return [note(what, paths, found) for what, found in kinds if any(found)]


def note(what: str, paths: Sequence[str], found: Sequence[str]) -> str:
    """A line that counts the tiles with something odd, and names the first one."""
    odd = [(path, how) for path, how in zip(paths, found, strict=True) if how]
    return f"{len(odd)} of {len(paths)} tiles {what}, such as {odd[0][0]} ({odd[0][1]})"


def check_locations(
    tiles: Sequence[Tile], locations: Locations, edges: Sequence[Edges], seed: int
) -> tuple[Locations, NameCheck | None]:
    """Check locations by name against the pixels; names that do not fit lose theirs.

    Args:
        edges: of each tile, from `profile_tiles`.
        seed: as in `check_names`.

    Returns:
        The locations with a note on the names, and the check; None if no name gives a location.
    """
    named = [n for n, source in enumerate(locations.sources) if source == "name"]
    bounds = [found for n in named if (found := bounds_of(tiles[n].path))]
    if not bounds:
        return locations, None
    check = check_names(bounds, [edges[n] for n in named], seed)
    if check.verdict == "match":
        return locations, check
    if check.verdict == "mismatch":
        locations = locations.without_names()
    return replace(locations, notes=[*locations.notes, check.warning()]), check


def utm_zone(longitude: float) -> int:
    """The zone of a longitude."""
    return int((longitude + 180) // 6) % 60 + 1


@lru_cache
def to_utm(zone: int) -> pyproj.Transformer:
    """The transformer from WGS84. South of the equator northings are negative."""
    return pyproj.Transformer.from_crs(WGS84, f"+proj=utm +zone={zone} +datum=WGS84")
