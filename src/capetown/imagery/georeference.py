"""The georeference of a tile: an affine transform from pixels to a CRS.

The transform and the CRS come from the first source that has them: an ``.aux.xml`` file, in which
GIS programs correct a georeference; GeoTIFF tags; a world file or ``.prj`` file; the user's choice.
"""

import re
import warnings
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import shapely
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from capetown.errors import CapetownError, one_line
from capetown.imagery.antimeridian import cut_at_180
from capetown.imagery.tiff import REDUCED
from capetown.imagery.tile_ref import Sidecars
from capetown.storage import read_start

WGS84 = "OGC:CRS84"
# Decimals of a degree: a millimetre.
DECIMALS = 8
# GeoTIFF tags: pixel scale, tie points, matrix, CRS.
TAGS = (33550, 33922, 34264, 34735)
# Numbers and names of the CRS, to which 34735 refers.
WRITTEN = (*TAGS, 34736, 34737)
WKT = re.compile(r"[A-Z][A-Z_]+\s*[\[(]", re.IGNORECASE)
# Bytes of a sidecar that are read. Larger ones are not what their names say.
MAX_SIDECAR = 2**24
# Degrees beyond the end of the earth that rounding explains.
ROUNDING = 1e-6
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
        ends = np.array([180, 90])
        found = np.where(np.abs(found) <= ends + ROUNDING, found.clip(-ends, ends), found)
        # Some rasters of the whole earth count longitudes from 0 to 360.
        longitude, latitude = found.T
        turn = 360 * np.sign(longitude) * ((np.abs(longitude) > 180) & (np.abs(longitude) <= 360))
        found = np.column_stack([longitude - turn, latitude])
        if not (np.isfinite(found).all() and (np.abs(found) <= ends).all()):
            raise GeoreferenceError(
                f"{x[0]:g}, {y[0]:g} in {_name(self.crs)} are not valid coordinates"
            )
        return np.asarray(found.round(DECIMALS))


class Outline(NamedTuple):
    """A tile in WGS84, in degrees: the ring of its corners, shape (4, 2), and its centre."""

    corners: Points
    longitude: float
    latitude: float

    def polygon(self) -> shapely.Geometry:
        """The polygon, counterclockwise; two of them if it crosses the antimeridian (RFC 7946)."""
        longitudes = self.corners[:, 0]
        if np.ptp(longitudes) <= 180 or longitudes.min() < self.longitude < longitudes.max():
            return shapely.orient_polygons(shapely.Polygon(self.corners))
        whole = shapely.Polygon(self.corners + (longitudes < 0)[:, None] * [360, 0])
        return cut_at_180(whole)


def outline(place: Georeference, width: int, height: int) -> Outline:
    """The outline of an image. Errors are those of `Georeference.to_earth`."""
    corners = [(0, 0), (0, height), (width, height), (width, 0)]
    found = place.to_earth(np.array([*corners, (width / 2, height / 2)], np.float64))
    return Outline(found[:4], *found[4].tolist())


class Located(NamedTuple):
    """What one source says of an image's location.

    Attributes:
        transform: from pixels to the CRS; None if it has none.
        crs: WKT; empty if it has none.
        gcps: True if it has ground control points instead of a transform.
        reduced: pixels of the original per pixel of a reduced tile, across and down.
    """

    transform: Affine | None = None
    crs: str = ""
    gcps: bool = False
    reduced: tuple[float, float] = (1, 1)


def find_georeference(tags: Located, sidecars: Sidecars, crs: str) -> Georeference | None:
    """The georeference of an image; None if it has none.

    Args:
        tags: of the image itself, from `tags_of_file` or `tags_of_dataset`.
        sidecars: the files beside it.
        crs: the user's choice, which replaces a missing CRS.

    Raises:
        GeoreferenceError: it cannot be used.
    """
    aux, world, prj = (_read(url) for url in sidecars)
    corrected = parse_aux(aux) if aux is not None else Located()
    beside_it = corrected.transform
    if beside_it is None and tags.transform is None and world is not None:
        beside_it = parse_world_file(world)
    # A file beside a reduced tile refers to the original.
    transform = tags.transform if beside_it is None else beside_it @ Affine.scale(*tags.reduced)
    if transform is None and tags.gcps:
        raise GeoreferenceError("has only ground control points", fix="run gdalwarp first")
    if transform is None:
        return None
    beside = prj.decode("utf-8-sig", errors="replace").strip() if prj else ""
    named = corrected.crs or tags.crs or beside
    # PROJ would also read other notations, and the files that these name.
    if named and not WKT.match(named):
        raise GeoreferenceError(f"the CRS {one_line(ValueError(named), 60)!r} is not WKT")
    if not (named or crs):
        raise GeoreferenceError("has no CRS", fix="name it with --crs, or add a .prj file")
    return Georeference(transform, named or crs)


def parse_aux(data: bytes) -> Located:
    """The transform and the CRS in an ``.aux.xml`` file of GDAL, QGIS or ArcGIS.

    Raises:
        GeoreferenceError: it is not XML, or its transform is not six numbers.
    """
    try:
        root = ElementTree.fromstring(data)
        numbers = root.findtext("GeoTransform")
        transform = Affine.from_gdal(*map(float, numbers.split(","))) if numbers else None
    except (ElementTree.ParseError, ValueError, TypeError, LookupError) as error:
        raise GeoreferenceError(f"the .aux.xml file is damaged ({one_line(error)})") from error
    # ArcGIS writes the CRS inside a SpatialReference.
    crs = root.findtext("SRS") or root.findtext(".//SpatialReference/WKT") or ""
    return Located(transform and _checked(transform, ".aux.xml file"), crs.strip())


def parse_world_file(data: bytes) -> Affine:
    """The transform of a world file.

    Raises:
        GeoreferenceError: it is not six numbers, or its pixels have no area.
    """
    try:
        a, d, b, e, c, f = map(float, data.decode("utf-8-sig").replace(",", ".").split())
    except ValueError as error:
        raise GeoreferenceError("the world file is not six numbers") from error
    # A world file refers to the centre of the first pixel.
    transform = Affine(a, b, c, d, e, f) @ Affine.translation(-0.5, -0.5)
    return _checked(transform, "world file")


def _checked(transform: Affine, source: str) -> Affine:
    if not np.isfinite([transform.determinant, transform.c, transform.f]).all():
        raise GeoreferenceError(f"the {source} is not six numbers")
    if transform.determinant == 0:
        raise GeoreferenceError(f"the pixels of the {source} have no area")
    return transform


def _read(url: str) -> bytes | None:
    """The content of a sidecar; None without one."""
    if not url:
        return None
    try:
        data = read_start(url, MAX_SIDECAR + 1)
    except Exception as error:  # each file system fails in its own way
        raise GeoreferenceError(f"{_file(url)} is unreadable ({one_line(error)})") from error
    if len(data) > MAX_SIDECAR:
        raise GeoreferenceError(f"{_file(url)} has over {MAX_SIDECAR / 1e6:.0f} MB")
    return data


def _file(url: str) -> str:
    return f"the file {url.rpartition('/')[2]}"


def tags_of_file(data: bytes) -> Located:
    """What the tags of an image file say, which only TIFF files have."""
    import tifffile

    try:
        with tifffile.TiffFile(BytesIO(data)) as tiff:
            page = tiff.pages.first
            if not (any(tag in page.tags for tag in TAGS) or REDUCED.match(page.description)):
                return Located()
    except Exception:  # no TIFF file
        return Located()
    try:
        # By default GDAL would choose a driver by content, and some drivers open other files.
        with MemoryFile(data) as file, file.open(driver="GTiff") as dataset:
            return tags_of_dataset(dataset)
    except RasterioError as error:
        raise GeoreferenceError(f"its tags cannot be read ({one_line(error)})") from error


def tags_of_dataset(dataset: rasterio.DatasetReader) -> Located:
    """What the tags of an open image say."""
    transform = None if dataset.transform == Affine.identity() else dataset.transform
    crs = dataset.crs.to_wkt() if dataset.crs else ""
    reduced = REDUCED.match(dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", ""))
    width, height = map(int, reduced.groups()) if reduced else dataset.shape[::-1]
    across, down = width / dataset.width, height / dataset.height
    return Located(transform, crs, bool(dataset.gcps[0]), (across, down))


def geotiff_tags(transform: Affine | None, crs: str) -> list[tuple[int, int, Any]]:
    """The tags, with their types and values, that say this in a TIFF file."""
    import tifffile

    if transform is None and not crs:
        return []
    with MemoryFile() as file:
        located = {"transform": transform, "crs": crs or None}
        file.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8", **located).close()
        with tifffile.TiffFile(BytesIO(file.getbuffer())) as tiff:
            tags = tiff.pages.first.tags
            return [(tag.code, int(tag.dtype), tag.value) for tag in tags if tag.code in WRITTEN]


@lru_cache(maxsize=64)
def _to_wgs84(crs: str) -> tuple[pyproj.Transformer, bool]:
    """The transformer to WGS84, and whether the axes of the CRS point west and south."""
    try:
        source = pyproj.CRS.from_user_input(crs)
        turned = [axis.direction for axis in source.axis_info[:2]] == ["west", "south"]
        transformer = pyproj.Transformer.from_crs(source, WGS84, always_xy=True)
    except Exception as error:  # text from any file, which PROJ and pyproj refuse in many ways
        raise GeoreferenceError(f"{_name(crs)} has no transformation to WGS84") from error
    if not (source.is_projected or source.is_geographic):
        raise GeoreferenceError(f"{_name(crs)} is neither projected nor geographic")
    return transformer, turned


def check_crs(crs: str) -> None:
    """Refuse a CRS without a transformation to WGS84."""
    _to_wgs84(crs)


def _name(crs: str) -> str:
    try:
        return str(pyproj.CRS.from_user_input(crs).name)
    except Exception:  # as in `_to_wgs84`
        return one_line(ValueError(crs), 60)
