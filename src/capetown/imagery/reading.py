"""Aerial tiles: finding them, and reading any of them as 8-bit RGB.

Tiles lie in one folder a class, and are named after the map sheet that they were cut from. Files
that are not ``.tif`` or ``.tiff``, in any case, are no tiles: the City puts a ``manifest`` beside
them. A tile is read by its file's own tags and one rule of bands and scale, the same for training
and predicting: it is kept in the model's card.
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
# The rule that fits most tiles.
AS_STORED = BandRendering(bands=None, scale="full")
# A file that calls itself a TIFF may be one of these.
OTHER_FORMATS = ("PNG", "JPEG", "JPEG2000", "WEBP", "BMP", "GIF")
# 16 bits of which no value needs more than 12 would be all but black.
TWELVE_BITS = 4095

# A damaged tile is one error of ours, not warnings besides.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_tile(source: Path | BinaryIO, rule: BandRendering = AS_STORED) -> Pixels:
    """Read the first image of a file as 8-bit RGB, whatever its name ends in.

    Args:
        source: a file's path, or a binary file that can seek; the result is the same.
        rule: which bands to show, and what range of values as 0 to 255. Bands that it does not
            name are the file's own: grey as three equal ones, else the first three.

    Returns:
        uint8, shape (height, width, 3), the right way up.

    Raises:
        UnreadableTileError: the reason, if the file cannot be opened, is empty, damaged, no image,
            more than `MAX_SIDE` pixels wide or high, or cannot be shown faithfully by the rule.
    """
    return to_rgb(read_raster(source), rule)


def read_raster(source: Path | BinaryIO) -> Raster:
    """The first image of a file as it is stored.

    Raises:
        UnreadableTileError: as `read_tile`, but for the rule.
    """
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return read_raster(file)
        except OSError as error:
            raise UnreadableTileError(f"cannot be read ({error.strerror}).") from error
    source.seek(0)
    if not (start := source.read(4)):
        raise UnreadableTileError("empty: 0 bytes.")
    source.seek(0)
    try:
        return read_tiff(source) if start in BYTE_ORDERS else _read_other(source)
    except UnreadableTileError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableTileError("no image that is known here, or damaged.") from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"over {MAX_SIDE} pixels a side: no tile.") from error
    except Exception as error:  # a decoder may fail in any way on a damaged file
        raise UnreadableTileError(f"damaged: {one_line(error)}.") from error


def to_rgb(raster: Raster, rule: BandRendering) -> Pixels:
    """An image as 8-bit RGB.

    Raises:
        UnreadableTileError: the reason, if the rule does not fit it.
    """
    values, largest = raster.values, raster.largest
    if largest not in (None, 255, 65535) and (most := int(values.max())) > (largest or 0):
        raise UnreadableTileError(f"damaged: a value of {most}, where the bits hold {largest}.")
    bands = _bands(raster, rule)
    # Slices are no copies.
    chosen = values[..., : 1 if bands == GREY else 3] if bands in PLAIN else values[..., bands]
    if rule.scale == "full":
        if largest is None:
            raise UnreadableTileError(
                f"pixels of type {values.dtype}: not unsigned, or over 16 bits; set tiles.scale."
            )
        if largest == 65535 and 0 < (top := int(chosen.max())) <= TWELVE_BITS:
            raise UnreadableTileError(
                f"16 bits, but no value over {top}: nearly black; set tiles.scale."
            )
        low, high = 0.0, float(largest)
    elif rule.scale == "percentile":
        low, high = np.nanpercentile(chosen.astype(np.float64), (2, 98))
    else:
        low, high = rule.scale
        if largest is not None and high > largest:
            raise UnreadableTileError(
                f"no value can be over {largest}: tiles.scale ends at {high:g}."
            )
    shown = _scaled(chosen, low, high, largest)
    if raster.white_is_zero:
        shown = 255 - shown
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _bands(raster: Raster, rule: BandRendering) -> tuple[int, ...]:
    """The bands to show, from 0."""
    count = raster.values.shape[2]
    if rule.bands is None:
        if raster.shown is None:
            raise UnreadableTileError(f"{count} bands, neither grey nor colours; set tiles.bands.")
        return raster.shown
    if max(rule.bands) > count:
        raise UnreadableTileError(f"has {count} bands; tiles.bands asks for {max(rule.bands)}.")
    return tuple(band - 1 for band in rule.bands)


def _scaled(values: npt.NDArray[Any], low: float, high: float, largest: int | None) -> Pixels:
    """Values from low to high as 0 to 255: cut off beyond, and 0 where there is no number."""
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
            raise UnreadableTileError(f"pixels of mode {image.mode}: cannot be shown.")
        return Raster(np.asarray(upright.convert("RGB")), orientation=orientation)


def resize(pixels: Pixels, size: int, interpolation: str) -> Pixels:
    """Squeeze an image into a square, all of it: pools often lie at an edge.

    timm's own evaluation would cut away all but the middle, its ``crop_pct``.

    Args:
        pixels: uint8, shape (height, width, 3).
        size: side of the square in pixels.
        interpolation: ``bilinear``, ``bicubic``, … as timm names them.

    Returns:
        uint8, shape (size, size, 3).
    """
    method = Image.Resampling[interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize((size, size), method))
