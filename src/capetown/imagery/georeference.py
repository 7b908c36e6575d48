"""Where a tile lies on Earth: by its GeoTIFF tags or the world file beside it.

A place is an affine transform from pixels to a CRS. The tags come first; a world file stands in for
a transform that they lack, and a ``.prj`` file, or the CRS that is asked for, for a CRS that they
lack. As GDAL reads them.
"""

import warnings
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from capetown.errors import CapetownError, one_line

WGS84 = "OGC:CRS84"
# Decimals of a degree: a millimetre.
DECIMALS = 8
# Tags of a TIFF file that has something to say of its place: pixel scale, tie points, matrix, CRS.
TAGS = (33550, 33922, 34264, 34735)
# An image without a place is nothing to be warned of.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
Points = npt.NDArray[np.float64]


class GeoreferenceError(CapetownError):
    """What says a tile's place cannot be used, and why."""


class Georeference(NamedTuple):
    """A place on Earth.

    Attributes:
        transform: from pixels, counted from the upper left corner, to the CRS, x first.
        crs: in any form that PROJ reads.
    """

    transform: Affine
    crs: str

    def part(self, left: int, top: int) -> "Georeference":
        """That of a window."""
        return Georeference(self.transform @ Affine.translation(left, top), self.crs)

    def upright(self, orientation: int, width: int, height: int) -> "Georeference":
        """That of an image that was turned the right way up: a place is that of stored pixels.

        Args:
            orientation: how the image is stored, as in TIFF and EXIF.
            width: of the upright image, in pixels.
            height: likewise.
        """
        stored = Affine.identity()
        if orientation in (5, 6, 7, 8):
            stored @= Affine(0, 1, 0, 1, 0, 0)
        if orientation in (3, 4, 7, 8):
            stored @= Affine(1, 0, 0, 0, -1, height)
        if orientation in (2, 3, 6, 7):
            stored @= Affine(-1, 0, width, 0, 1, 0)
        return Georeference(self.transform @ stored, self.crs)

    def to_earth(self, pixels: Points) -> Points:
        """Longitude and latitude in WGS84, in degrees, of points in pixels.

        Args:
            pixels: shape (points, 2): to the right and down from the upper left corner.

        Raises:
            PlaceError: if there is no way from the CRS to WGS84, or no such place.
        """
        transformer, turned = _to_wgs84(self.crs)
        a, b, c, d, e, f = self.transform[:6]
        x, y = pixels @ (a, b) + c, pixels @ (d, e) + f
        # South African systems count westing and southing. Files that look as if they counted
        # easting and northing, as nearly all do, write these numbers with the other sign.
        sign = -1 if turned and self.transform.a > 0 else 1
        found = np.column_stack(transformer.transform(sign * x, sign * y))
        if not (np.isfinite(found).all() and (np.abs(found) <= (180, 90)).all()):
            raise GeoreferenceError(f"no place on Earth: {x[0]:g}, {y[0]:g} in {_name(self.crs)}.")
        return np.asarray(found.round(DECIMALS))


class Outline(NamedTuple):
    """A tile in WGS84: its corners, shape (4, 2), in a ring, and its centre; degrees."""

    corners: Points
    longitude: float
    latitude: float


def outline(place: Georeference, width: int, height: int) -> Outline:
    """The outline of an image.

    Raises:
        PlaceError: as `Place.to_earth`.
    """
    corners = [(0, 0), (0, height), (width, height), (width, 0)]
    found = place.to_earth(np.array([*corners, (width / 2, height / 2)], np.float64))
    return Outline(found[:4], *found[4].tolist())


def find_georeference(
    data: bytes, world: bytes | None, prj: bytes | None, crs: str
) -> Georeference | None:
    """The place of an image file; None if nothing says it.

    Args:
        data: the file.
        world: the world file beside it, if there is one.
        prj: likewise, the file of the CRS.
        crs: what to take where nothing names one; empty for nothing.

    Raises:
        PlaceError: if what says the place cannot be used.
    """
    transform, named = _tags(data)
    if transform is None and world is not None:
        transform = parse_world_file(world)
    if transform is None:
        return None
    return Georeference(transform, choose_crs(named, prj, crs))


def choose_crs(named: str, prj: bytes | None, crs: str) -> str:
    """The CRS that a file names, or its ``.prj``, or else the one asked for.

    Raises:
        PlaceError: if there is none.
    """
    beside = prj.decode(errors="replace").strip() if prj else ""
    if not (chosen := named or beside or crs):
        raise GeoreferenceError(
            "placed, but in no CRS: name it with --crs, or put a .prj file beside it."
        )
    return chosen


def parse_world_file(data: bytes) -> Affine:
    """The transform of a world file.

    Raises:
        PlaceError: if it is not six numbers, or makes pixels without an area.
    """
    try:
        a, d, b, e, c, f = map(float, data.decode("ascii").replace(",", ".").split())
    except ValueError as error:
        raise GeoreferenceError("the world file is not six numbers.") from error
    # It names the centre of the first pixel.
    transform = Affine(a, b, c, d, e, f) @ Affine.translation(-0.5, -0.5)
    if not np.isfinite(transform.determinant) or not np.isfinite([c, f]).all():
        raise GeoreferenceError("the world file is not six numbers.")
    if transform.determinant == 0:
        raise GeoreferenceError("the world file says that a pixel has no area.")
    return transform


def _tags(data: bytes) -> tuple[Affine | None, str]:
    """Transform and CRS by the tags of a TIFF file; none and empty where they do not say."""
    import tifffile

    try:
        with tifffile.TiffFile(BytesIO(data)) as tiff:
            if not any(tag in tiff.pages.first.tags for tag in TAGS):
                return None, ""
    except Exception:  # no TIFF file
        return None, ""
    try:
        with MemoryFile(data) as file, file.open() as dataset:
            return of_dataset(dataset)
    except RasterioError as error:
        raise GeoreferenceError(f"its tags cannot be read ({one_line(error)}).") from error


def of_dataset(dataset: rasterio.DatasetReader) -> tuple[Affine | None, str]:
    """Transform and CRS of a dataset; none and empty where it does not say.

    Raises:
        PlaceError: if it is placed by control points alone.
    """
    crs = dataset.crs.to_wkt() if dataset.crs else ""
    if dataset.transform != Affine.identity():
        return dataset.transform, crs
    if dataset.gcps[0]:
        raise GeoreferenceError("placed by control points alone: warp it first, as gdalwarp does.")
    return None, crs


@lru_cache(maxsize=64)
def _to_wgs84(crs: str) -> tuple[pyproj.Transformer, bool]:
    """The way to WGS84, and whether the CRS counts westing and southing."""
    try:
        source = pyproj.CRS.from_user_input(crs)
        turned = [axis.direction for axis in source.axis_info[:2]] == ["west", "south"]
        return pyproj.Transformer.from_crs(source, WGS84, always_xy=True), turned
    except pyproj.exceptions.ProjError as error:
        raise GeoreferenceError(f"no way from {_name(crs)} to WGS84.") from error


def check_crs(crs: str) -> None:
    """Refuse a CRS that leads nowhere.

    Raises:
        PlaceError: if PROJ does not know it, or knows no way to WGS84.
    """
    _to_wgs84(crs)


def _name(crs: str) -> str:
    try:
        return str(pyproj.CRS.from_user_input(crs).name)
    except pyproj.exceptions.ProjError:
        return one_line(ValueError(crs), 60)
