"""Cut orthophotos of any size into windows, and read them one by one.

Only the blocks under a window are read, also from buckets and web servers.

GDAL opens TIFF, PNG and JPEG files only, by their first bytes, and no file beside them. Some of its
other drivers, such as VRT, would open whatever path or URL a file names.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as Rectangle

from capetown.errors import CapetownError, one_line
from capetown.imagery.georeference import (
    Georeference,
    GeoreferenceError,
    find_georeference,
    tags_of_dataset,
)
from capetown.imagery.tiff import BYTE_ORDERS, COLOUR, GREY, MAX_SIDE, Raster, UnreadableTileError
from capetown.imagery.tile_ref import TileRef, Window
from capetown.storage import is_local, open_storage, read_start

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
DRIVERS = dict.fromkeys(BYTE_ORDERS, "GTiff") | {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG"}
# Stops GDAL from opening files beside an image.
ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
# Windows with a smaller share of data are left out.
MIN_DATA = 0.5
# Smaller windows show nothing to a model.
MIN_SIDE = 32


@dataclass(frozen=True)
class Tiling:
    """How orthophotos are cut.

    Attributes:
        metres: side of a window on the ground.
        pixels: side of a window of images without a scale; 0 refuses them.
        overlap: share of a window's side that its neighbour repeats.
        crs: the default CRS.
    """

    metres: float = 0
    pixels: int = 0
    overlap: float = 0
    crs: str = ""


class Orthophoto:
    """An open image, read by one thread."""

    def __init__(self, dataset: Any, source: TileRef) -> None:
        self.dataset = dataset
        self.source = source
        self._place: Georeference | None = None
        self._has_nodata = any(f != [MaskFlags.all_valid] for f in dataset.mask_flag_enums)

    def place(self, crs: str) -> Georeference | None:
        """The georeference of the whole image. Sidecars are read once, not for every window."""
        if self._place is None:
            tags = tags_of_dataset(self.dataset)
            self._place = find_georeference(tags, self.source.sidecars, crs)
        return self._place

    def share_of_data(self, window: Window) -> float:
        """The share of a window's pixels that are not nodata or transparent.

        Raises:
            UnreadableTileError: they cannot be read.
        """
        if not self._has_nodata:
            return 1.0
        with _damaged():
            mask = self.dataset.dataset_mask(window=Rectangle(*window))
        return float(np.mean(mask > 0))

    def read(self, window: Window) -> Raster:
        """The pixels of a window.

        Raises:
            UnreadableTileError: they cannot be read.
        """
        with _damaged():
            values = np.moveaxis(self.dataset.read(window=Rectangle(*window)), 0, 2)
        return _interpret(self.dataset, values)


@contextmanager
def _damaged() -> Iterator[None]:
    """Turn errors of reading pixels into `UnreadableTileError`."""
    try:
        yield
    except (RasterioError, OSError) as error:
        raise UnreadableTileError(f"damaged: {one_line(error.__cause__ or error)}") from error


@contextmanager
def open_image(source: TileRef) -> Iterator[Orthophoto]:
    """Open an image for reading in this thread."""
    fs, location = open_storage(source.url)
    try:
        driver = _driver(source.url, location)
        with rasterio.Env(**ALONE):
            opener = {} if is_local(fs) else {"opener": fs}
            image = Orthophoto(rasterio.open(location, driver=driver, **opener), source)
    except UnreadableTileError:
        raise
    except Exception as error:  # each file system fails in its own way
        raise UnreadableTileError(f"cannot be opened ({one_line(error)})") from error
    with closing(image.dataset):
        yield image


def _driver(url: str, location: str) -> str:
    """The driver for a file, by its first bytes."""
    start = read_start(url, 4)
    driver = next((name for mark, name in DRIVERS.items() if start.startswith(mark)), "")
    if not driver or location.startswith("/vsi"):  # GDAL's prefix for other file systems
        raise UnreadableTileError("not a TIFF, PNG or JPEG file")
    return driver


@dataclass(frozen=True)
class Grid:
    """The windows of an image, row by row. All have the same size.

    Attributes:
        source: the image.
        lefts: first column of each window in a row, in pixels; empty if the image is not cut.
        tops: first row of each row of windows.
    """

    source: TileRef
    lefts: tuple[int, ...] = ()
    tops: tuple[int, ...] = ()
    width: int = 0
    height: int = 0

    def __len__(self) -> int:
        """The number of windows; 1 for an image that is not cut."""
        return max(1, len(self.lefts) * len(self.tops))

    def tile(self, number: int) -> TileRef:
        """A window by its number, counted from 0."""
        if not self.lefts:
            return self.source
        row, column = divmod(number, len(self.lefts))
        window = Window(self.lefts[column], self.tops[row], self.width, self.height)
        path = f"{self.source.path}#xywh={','.join(map(str, window))}"
        return self.source._replace(path=path, window=window)


def windows_of(source: TileRef, how: Tiling) -> Grid:
    """The windows of an image; the image itself with an error if it cannot be cut.

    Windows are spread evenly from edge to edge, so they may overlap more than asked. A smaller
    image is one window.
    """
    if source.error:
        return Grid(source)
    try:
        _check_parts(source)
        with open_image(source) as image:
            width, height = image.dataset.width, image.dataset.height
            across, down = _window_size(image, how)
    except CapetownError as error:
        return Grid(source._replace(error=str(error)))
    lefts, tops = starts(width, across, how.overlap), starts(height, down, how.overlap)
    return Grid(source, tuple(lefts), tuple(tops), min(across, width), min(down, height))


def _check_parts(source: TileRef) -> None:
    """Refuse a file on a server that cannot send parts of files."""
    fs, location = open_storage(source.url)
    if is_local(fs):
        return
    try:
        with fs.open(location, "rb") as file:
            file.seek(-1, 2)
            file.read(1)
    except Exception as error:  # each file system fails in its own way
        raise UnreadableTileError(
            f"its server sends no parts of files ({one_line(error)})", fix="download it first"
        ) from error


def starts(length: int, side: int, overlap: float) -> list[int]:
    """The first pixels of the windows along one side of an image.

    The next window repeats at least the share `overlap` of a window.
    """
    left = max(length - side, 0)
    step = max(1, int(side * (1 - overlap)))
    return [round(at) for at in np.linspace(0, left, -(-left // step) + 1).tolist()]


def _window_size(image: Orthophoto, how: Tiling) -> tuple[int, int]:
    """Width and height of a window in pixels."""
    try:
        place = image.place(how.crs) if how.metres else None
        if place:
            place.to_earth(np.zeros((1, 2)))
            across, down = _metres_per_pixel(place, image.dataset)
    except GeoreferenceError as error:
        if not how.pixels:
            fix = f"{error.fix}; or " * bool(error.fix) + "give --tile-pixels"
            raise CapetownError(error.what, fix=fix) from error
        place = None
    if place:
        sides = max(1, round(how.metres / across)), max(1, round(how.metres / down))
    elif how.pixels:
        sides = how.pixels, how.pixels
    else:
        raise CapetownError("has no scale in metres", fix="give --tile-pixels")
    if not MIN_SIDE <= min(sides) <= max(sides) <= MAX_SIDE:
        raise CapetownError(
            f"windows would have {sides[0]} x {sides[1]} pixels, not {MIN_SIDE} to {MAX_SIDE}",
            fix="give another --tile-metres or --tile-pixels",
        )
    return sides


def _metres_per_pixel(place: Georeference, dataset: Any) -> tuple[float, float]:
    """Width and height of a pixel, on the map, or on the ground if the unit is degrees."""
    a, b, _, d, e, _ = place.transform[:6]
    crs = pyproj.CRS.from_user_input(place.crs)
    if crs.is_projected:
        unit = crs.axis_info[0].unit_conversion_factor
        return float(np.hypot(a, d) * unit), float(np.hypot(b, e) * unit)
    x, y = dataset.width // 2, dataset.height // 2
    here = place.to_earth(np.array([(x, y), (x + 100, y), (x, y + 100)], np.float64))
    longitudes, latitudes = here.T
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(
        longitudes[[0, 0]], latitudes[[0, 0]], longitudes[1:], latitudes[1:]
    )
    return metres[0] / 100, metres[1] / 100


def _interpret(dataset: Any, values: Any) -> Raster:
    """The bands and their meaning, from GDAL."""
    colours = dataset.colorinterp
    largest = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(values.dtype)
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if largest and bits:
        largest = 2 ** int(bits) - 1
    if colours[0] == ColorInterp.palette:
        table = dataset.colormap(1)
        colour_of = np.array([table.get(k, (0, 0, 0))[:3] for k in range(max(table) + 1)], np.uint8)
        return Raster(colour_of[np.minimum(values[..., 0], len(colour_of) - 1)])
    by_name = [colours.index(c) for c in RGB if c in colours]
    count = len(colours) - colours.count(ColorInterp.alpha)
    shown = tuple(by_name) if len(by_name) == 3 else {1: GREY, 2: None}.get(count, COLOUR)
    white = dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    return Raster(values, largest, shown, white, abs(dataset.transform.a))
