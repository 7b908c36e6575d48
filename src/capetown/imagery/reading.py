"""Read any image file as 8-bit RGB.

The file's tags and one `BandRendering` decide how. Training and prediction use the same rendering.
"""

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from capetown.errors import one_line
from capetown.imagery.tiff import (
    BYTE_ORDERS,
    COLOUR,
    GREY,
    MAX_SIDE,
    Raster,
    TooLargeError,
    check_size,
    read_tiff,
)
from capetown.imagery.tiff import Pixels as Pixels
from capetown.imagery.tiff import UnreadableTileError as UnreadableTileError
from capetown.params import BandRendering

PLAIN = (GREY, COLOUR)
# The rendering that fits most tiles.
AS_STORED = BandRendering(bands=None, scale="full")
# Formats that some files with the name of a TIFF have.
OTHER_FORMATS = ("PNG", "JPEG", "JPEG2000", "WEBP", "BMP", "GIF")
# An image of 16 bits with smaller values only would be nearly black.
TWELVE_BITS = 4095

# A damaged tile is reported once, as an error.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_tile(source: Path | BinaryIO, rendering: BandRendering = AS_STORED) -> Pixels:
    """Read the first image of a file as 8-bit RGB.

    Args:
        source: a path or a seekable binary file.
        rendering: which bands to show, and which values become 0 and 255. Without bands, grey
            becomes three equal bands, and other images show their first three.

    Returns:
        uint8, shape (height, width, 3), upright.

    Raises:
        UnreadableTileError: the file is unreadable, damaged, not an image, more than `MAX_SIDE`
            pixels wide or high, or the rendering does not fit.
    """
    return to_rgb(read_raster(source), rendering)


def read_raster(source: Path | BinaryIO) -> Raster:
    """The first image of a file, with its values as stored. Errors are those of `read_tile`."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return read_raster(file)
        except OSError as error:
            raise UnreadableTileError(f"cannot be read ({error.strerror})") from error
    source.seek(0)
    if not (start := source.read(4)):
        raise UnreadableTileError("empty: 0 bytes")
    source.seek(0)
    try:
        return read_tiff(source) if start in BYTE_ORDERS else _read_other(source)
    except UnreadableTileError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableTileError("not an image, or damaged") from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"over {MAX_SIDE} pixels per side") from error
    except Exception as error:  # a decoder may fail in any way on a damaged file
        raise UnreadableTileError(f"damaged: {one_line(error)}") from error


def to_rgb(raster: Raster, rendering: BandRendering) -> Pixels:
    """An image as 8-bit RGB. `UnreadableTileError`: the rendering does not fit it."""
    values, largest = raster.values, raster.largest
    if largest not in (None, 255, 65535) and (most := int(values.max())) > (largest or 0):
        raise UnreadableTileError(f"damaged: a value of {most} in bits for {largest}")
    bands = _bands(raster, rendering)
    # Slices avoid a copy.
    chosen = values[..., : 1 if bands == GREY else 3] if bands in PLAIN else values[..., bands]
    if rendering.scale == "full":
        if largest is None:
            raise UnreadableTileError(
                f"pixels of type {values.dtype}: signed, or over 16 bits", fix=_remedy("scale")
            )
        if largest == 65535 and 0 < (top := int(chosen.max())) <= TWELVE_BITS:
            raise UnreadableTileError(
                f"nearly black: 16 bits, but no value over {top}", fix=_remedy("scale")
            )
        low, high = 0.0, float(largest)
    elif rendering.scale == "percentile":
        low, high = np.nanpercentile(chosen.astype(np.float64), (2, 98))
    else:
        low, high = rendering.scale
        if largest is not None and high > largest:
            raise UnreadableTileError(
                f"no value can be over {largest}, but tiles.scale ends at {high:g}",
                fix=_remedy("scale"),
            )
    shown = _scaled(chosen, low, high, largest)
    if raster.white_is_zero:
        shown = 255 - shown
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _bands(raster: Raster, rendering: BandRendering) -> tuple[int, ...]:
    """The bands to show, from 0."""
    count, bands = raster.values.shape[2], rendering.bands
    if bands is None:
        if raster.shown is None:
            raise UnreadableTileError(f"{count} bands, neither grey nor RGB", fix=_remedy("bands"))
        return raster.shown
    if max(bands) > count:
        raise UnreadableTileError(
            f"has {count} bands, but tiles.bands asks for {max(bands)}", fix=_remedy("bands")
        )
    return tuple(band - 1 for band in bands)


def _remedy(key: str) -> str:
    """What to do about a tile that the rendering does not fit, before training and after it."""
    return f"convert it like the training tiles, or train with another tiles.{key}"


def _scaled(values: npt.NDArray[Any], low: float, high: float, largest: int | None) -> Pixels:
    """Values from low to high as 0 to 255, clipped beyond. NaN becomes 0."""
    if (low, high, largest) == (0, 255, 255):
        return np.asarray(values, np.uint8)
    if largest is not None:
        every = _scaled(np.arange(largest + 1), low, high, None)
        return np.asarray(every[values], np.uint8)
    share = (values.astype(np.float64) - low) / (high - low or 1)
    return np.asarray(np.rint(255 * np.nan_to_num(share).clip(0, 1)), np.uint8)


def _read_other(source: BinaryIO) -> Raster:
    with Image.open(source, formats=OTHER_FORMATS) as image:
        check_size(*image.size)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            grey = np.asarray(upright, dtype=np.uint16)
            return Raster(grey[..., None], 65535, GREY, orientation=orientation)
        if upright.mode in ("I", "F", "LAB"):
            raise UnreadableTileError(f"pixels of mode {image.mode} cannot be shown")
        return Raster(np.asarray(upright.convert("RGB")), orientation=orientation)


def resize(pixels: Pixels, size: int, interpolation: str) -> Pixels:
    """Resize a whole image to a square.

    timm's evaluation would crop to the centre (``crop_pct``), but pools often touch an edge. The
    names of interpolations are timm's.
    """
    method = Image.Resampling[interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize((size, size), method))
