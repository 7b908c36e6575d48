"""The georeference of a tile: an affine transform from pixels to a CRS.

As in GDAL, GeoTIFF tags come first. A world file replaces a missing transform. A ``.prj`` file, or
the user's choice, replaces a missing CRS.
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
# GeoTIFF tags: pixel scale, tie points, matrix, CRS.
TAGS = (33550, 33922, 34264, 34735)
# Images without a georeference are normal.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
Points = npt.NDArray[np.float64]


class GeoreferenceError(CapetownError):
    """A tile's georeference cannot be used."""


class Georeference(NamedTuple):
    """The transform of an image from pixels to its CRS, x first. PROJ reads the CRS."""

    transform: Affine
    crs: str

    def part(self, left: int, top: int) -> "Georeference":
        """The georeference of a window."""
        return Georeference(self.transform @ Affine.translation(left, top), self.crs)

    def upright(self, orientation: int, width: int, height: int) -> "Georeference":
        """The georeference of the upright image. A transform refers to the pixels as stored.

        Args:
            orientation: of the stored image, as in TIFF and EXIF.
            width: of the upright image, in pixels.
            height: of the upright image, in pixels.
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
        """Longitude and latitude in WGS84, in degrees, shape (points, 2).

        Args:
            pixels: shape (points, 2), to the right and down from the upper left corner.

        Raises:
            GeoreferenceError: the CRS has no transformation to WGS84, or the result is not valid.
        """
        transformer, turned = _to_wgs84(self.crs)
        a, b, c, d, e, f = self.transform[:6]
        x, y = pixels @ (a, b) + c, pixels @ (d, e) + f
        # The axes of South African systems point west and south. Nearly all files use easting and
        # northing nevertheless, so their numbers have the opposite sign.
        sign = -1 if turned and self.transform.a > 0 else 1
        found = np.column_stack(transformer.transform(sign * x, sign * y))
        if not (np.isfinite(found).all() and (np.abs(found) <= (180, 90)).all()):
            raise GeoreferenceError(
                f"{x[0]:g}, {y[0]:g} in {_name(self.crs)} are not valid coordinates"
            )
        return np.asarray(found.round(DECIMALS))


class Outline(NamedTuple):
    """A tile in WGS84, in degrees: the ring of its corners, shape (4, 2), and its centre."""

    corners: Points
    longitude: float
    latitude: float


def outline(place: Georeference, width: int, height: int) -> Outline:
    """The outline of an image. Errors are those of `Georeference.to_earth`."""
    corners = [(0, 0), (0, height), (width, height), (width, 0)]
    found = place.to_earth(np.array([*corners, (width / 2, height / 2)], np.float64))
    return Outline(found[:4], *found[4].tolist())


def find_georeference(
    data: bytes, world: bytes | None, prj: bytes | None, crs: str
) -> Georeference | None:
    """The georeference of an image file; None if it has none.

    `world` and `prj` are the files beside it, `crs` is the default.

    Raises:
        GeoreferenceError: it cannot be used.
    """
    transform, named = _tags(data)
    if transform is None and world is not None:
        transform = parse_world_file(world)
    if transform is None:
        return None
    return Georeference(transform, choose_crs(named, prj, crs))


def choose_crs(named: str, prj: bytes | None, crs: str) -> str:
    """The CRS in a file's tags, else in its ``.prj`` file, else the default."""
    beside = prj.decode(errors="replace").strip() if prj else ""
    if not (chosen := named or beside or crs):
        raise GeoreferenceError("has no CRS", fix="name it with --crs, or add a .prj file")
    return chosen


def parse_world_file(data: bytes) -> Affine:
    """The transform of a world file.

    Raises:
        GeoreferenceError: it is not six numbers, or its pixels have no area.
    """
    try:
        a, d, b, e, c, f = map(float, data.decode("ascii").replace(",", ".").split())
    except ValueError as error:
        raise GeoreferenceError("the world file is not six numbers") from error
    # A world file refers to the centre of the first pixel.
    transform = Affine(a, b, c, d, e, f) @ Affine.translation(-0.5, -0.5)
    if not np.isfinite(transform.determinant) or not np.isfinite([c, f]).all():
        raise GeoreferenceError("the world file is not six numbers")
    if transform.determinant == 0:
        raise GeoreferenceError("the pixels of the world file have no area")
    return transform


def _tags(data: bytes) -> tuple[Affine | None, str]:
    """Transform and CRS in the tags of a TIFF file; None and empty if missing."""
    import tifffile

    try:
        with tifffile.TiffFile(BytesIO(data)) as tiff:
            if not any(tag in tiff.pages.first.tags for tag in TAGS):
                return None, ""
    except Exception:  # no TIFF file
        return None, ""
    try:
        with MemoryFile(data) as file, file.open() as dataset:
            return read_georeference(dataset)
    except RasterioError as error:
        raise GeoreferenceError(f"its tags cannot be read ({one_line(error)})") from error


def read_georeference(dataset: rasterio.DatasetReader) -> tuple[Affine | None, str]:
    """Transform and CRS of a dataset; None and empty if missing.

    Raises:
        GeoreferenceError: it has only ground control points.
    """
    crs = dataset.crs.to_wkt() if dataset.crs else ""
    if dataset.transform != Affine.identity():
        return dataset.transform, crs
    if dataset.gcps[0]:
        raise GeoreferenceError("has only ground control points", fix="run gdalwarp first")
    return None, crs


@lru_cache(maxsize=64)
def _to_wgs84(crs: str) -> tuple[pyproj.Transformer, bool]:
    """The transformer to WGS84, and whether the axes of the CRS point west and south."""
    try:
        source = pyproj.CRS.from_user_input(crs)
        turned = [axis.direction for axis in source.axis_info[:2]] == ["west", "south"]
        return pyproj.Transformer.from_crs(source, WGS84, always_xy=True), turned
    except pyproj.exceptions.ProjError as error:
        raise GeoreferenceError(f"{_name(crs)} has no transformation to WGS84") from error


def check_crs(crs: str) -> None:
    """Refuse a CRS without a transformation to WGS84."""
    _to_wgs84(crs)


def _name(crs: str) -> str:
    try:
        return str(pyproj.CRS.from_user_input(crs).name)
    except pyproj.exceptions.ProjError:
        return one_line(ValueError(crs), 60)
