"""Read the first image of a TIFF file: its bands, their range, and which of them to show.

tifffile and imagecodecs decode it. For 8-bit RGB with LZW or Deflate, the most common kind, libtiff
is three times as fast. Images that cannot be shown faithfully are refused.
"""

import logging
import re
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from capetown.errors import CapetownError

# Larger images are mosaics. Resized to a model's input, they would show no pools.
MAX_SIDE = 4096
MAX_BYTES = 2**30
# The description of a reduced tile: its original size.
REDUCED = re.compile(r"reduced from (\d+) x (\d+) pixels")
Pixels = npt.NDArray[np.uint8]
BYTE_ORDERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
GREY, COLOUR = (0, 0, 0), (0, 1, 2)
BY_LIBTIFF = (COMPRESSION.LZW, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
# These decoders return RGB.
TO_RGB = (COMPRESSION.JPEG, COMPRESSION.OJPEG, COMPRESSION.WEBP, COMPRESSION.JPEG2000)

# A damaged tile is reported once, as an error.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class UnreadableTileError(CapetownError):
    """A tile cannot be used."""


class TooLargeError(UnreadableTileError):
    """An image has more pixels or bytes than a tile."""


@dataclass(frozen=True)
class Raster:
    """An image with its stored values.

    Attributes:
        values: shape (height, width, bands), upright.
        largest: the value of white; None if the type does not define it.
        shown: the three bands to show; None if the file does not define them.
        white_is_zero: True if 0 is white.
        resolution: side of a pixel on the ground before the tile was reduced, in the unit of the
            CRS; 0 if unknown.
        side: the longer side before the tile was reduced, from its description; 0 if unknown.
        orientation: of the stored image, as in TIFF and EXIF. 1 is upright.
    """

    values: npt.NDArray[Any]
    largest: int | None = 255
    shown: tuple[int, ...] | None = COLOUR
    white_is_zero: bool = False
    resolution: float = 0.0
    side: int = 0
    orientation: int = 1


def check_size(width: int, height: int) -> None:
    """Refuse an image that is too large or empty."""
    if max(width, height) > MAX_SIDE:
        raise TooLargeError(f"{width} x {height} pixels, over {MAX_SIDE} per side")
    if min(width, height) < 1:
        raise UnreadableTileError(f"{width} x {height} pixels")


def read_tiff(file: BinaryIO) -> Raster:
    """Read the first image of a TIFF file.

    Raises:
        UnreadableTileError: the image cannot be shown faithfully.
        Exception: any kind, from a decoder, if the file is damaged.
    """
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        _check(page, tiff.filehandle.size)
        values = _turn(_decode(page, file), page)
        raster = _interpret(page, values)
        scale = page.tags.valueof(33550)  # GeoTIFF's ModelPixelScale
        resolution = float(scale[0]) if scale and scale[0] > 0 else 0.0
        if reduced := REDUCED.match(page.description):
            resolution *= page.imagewidth / int(reduced[1])
        side = max(map(int, reduced.groups())) if reduced else max(values.shape[:2])
        orientation = page.tags.valueof(274, default=1)
        return replace(raster, resolution=resolution, side=side, orientation=orientation)


def _check(page: Any, file_size: int) -> None:
    check_size(page.imagewidth, page.imagelength)
    if page.imagedepth != 1:
        raise UnreadableTileError(f"{page.imagedepth} layers of pixels")
    if not isinstance(page.bitspersample, int):
        bits = ", ".join(map(str, page.bitspersample))
        raise UnreadableTileError(f"bands of different depths: {bits} bits")
    if page.dtype is None or page.dtype.kind not in "buif":
        form = getattr(page.sampleformat, "name", page.sampleformat)
        raise UnreadableTileError(f"pixels of type {form}, {page.bitspersample} bits: not numbers")
    tile = max(page.tilewidth, page.tilelength) if page.is_tiled else 0
    if page.nbytes > MAX_BYTES or tile > 2 * MAX_SIDE:
        raise UnreadableTileError(f"too large: {page.samplesperpixel} bands")
    if page.compression != COMPRESSION.NONE and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise UnreadableTileError(f"cannot decompress {_name(page.compression)}")
    # tifffile would read missing bytes as zeros. Blocks that the file omits are really zeros.
    if max(np.add(page.dataoffsets, page.databytecounts)) > file_size:
        raise UnreadableTileError("damaged: the file ends before its pixels do")


def _decode(page: Any, file: BinaryIO) -> npt.NDArray[Any]:
    """The stored samples, shape (height, width, bands)."""
    plain = (
        page.photometric == PHOTOMETRIC.RGB
        and (page.dtype, page.bitspersample, page.axes) == (np.uint8, 8, "YXS")
        and all(page.databytecounts)
    )
    subsampled = page.photometric == PHOTOMETRIC.YCBCR and page.subsampling not in (None, (1, 1))
    if plain and page.compression in BY_LIBTIFF:
        file.seek(0)
        values: npt.NDArray[Any] = imagecodecs.tiff_decode(file.read())
    elif subsampled and page.compression not in TO_RGB:
        raise UnreadableTileError("YCbCr with chroma subsampling, but not JPEG")
    else:
        values = page.asarray(maxworkers=1)
    # (planes, depth, height, width, samples)
    height, width = page.imagelength, page.imagewidth
    values = np.moveaxis(values.reshape(page.shaped)[:, 0], 0, 2).reshape(height, width, -1)
    return values.astype(np.uint8) if values.dtype == bool else values


def _turn(values: npt.NDArray[Any], page: Any) -> npt.NDArray[Any]:
    """Turn an image upright, by TIFF's Orientation."""
    orientation = page.tags.valueof(274, default=1)
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _interpret(page: Any, values: npt.NDArray[Any]) -> Raster:
    """The bands and their meaning, by TIFF's PhotometricInterpretation."""
    largest = 2**page.bitspersample - 1 if page.dtype.kind in "bu" else None
    if largest and largest > 65535:
        largest = None
    bands = values.shape[2]
    match page.photometric:
        case PHOTOMETRIC.RGB if bands >= 3:
            return Raster(_straight(page, values, largest), largest)
        case PHOTOMETRIC.MINISBLACK | PHOTOMETRIC.MINISWHITE:
            alphas = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
            count = bands - sum(extra in alphas for extra in page.extrasamples)
            shown = {1: GREY, 2: None}.get(count, COLOUR)
            white = page.photometric == PHOTOMETRIC.MINISWHITE
            straight = _straight(page, values, largest)
            return Raster(straight, largest, shown, white)
        case PHOTOMETRIC.PALETTE if largest and page.colormap is not None:
            colours = np.asarray(page.colormap).T
            # Some programs use only 8 of the 16 bits.
            eight = colours >> 8 if colours.max() > 255 else colours
            rgb = eight.astype(np.uint8)[values[..., 0]]
            return Raster(rgb)
        case PHOTOMETRIC.YCBCR if bands == 3:
            if page.compression in TO_RGB and page.axes != "SYX":
                return Raster(values, largest)
            if largest == 255 and _is_plain_ycbcr(page):
                return Raster(_by_pillow("YCbCr", values))
        case PHOTOMETRIC.SEPARATED if bands >= 4 and page.tags.valueof(332, default=1) == 1:
            if largest == 255:
                return Raster(_by_pillow("CMYK", values[..., :4]))
    bits = f"{bands} bands of {page.bitspersample} bits"
    raise UnreadableTileError(f"cannot show {_name(page.photometric)}, {bits}")


def _straight(page: Any, values: npt.NDArray[Any], largest: int | None) -> npt.NDArray[Any]:
    """The bands divided by premultiplied alpha, if there is any."""
    extras = list(page.extrasamples)
    if EXTRASAMPLE.ASSOCALPHA not in extras:
        return values
    if largest is None:
        raise UnreadableTileError(f"premultiplied alpha in pixels of type {page.dtype}")
    band = values.shape[2] - len(extras) + extras.index(EXTRASAMPLE.ASSOCALPHA)
    alpha = values[..., band : band + 1].astype(np.uint32)
    if (values[..., : values.shape[2] - len(extras)] > alpha).any():
        return values  # no product exceeds its alpha, so the tag is wrong, which is common
    straight = (values * np.uint32(largest) + alpha // 2) // np.maximum(alpha, 1)
    straight = np.minimum(straight, largest)
    straight[..., band] = values[..., band]
    return np.asarray(straight, values.dtype)


def _is_plain_ycbcr(page: Any) -> bool:
    """True for the YCbCr of JPEG: ITU-R BT.601 with the full range."""
    for tag, usual in ((529, (0.299, 0.587, 0.114)), (532, (0, 255, 128, 255, 128, 255))):
        found = np.ravel(page.tags.valueof(tag, default=usual)).astype(float)
        if found.size == 2 * len(usual):  # numerators and denominators
            found = found[::2] / found[1::2]
        if found.shape != (len(usual),) or not np.allclose(found, usual, atol=1e-3):
            return False
    return True


def _by_pillow(mode: str, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    size = values.shape[1::-1]
    image = Image.frombytes(mode, size, values.tobytes())
    return np.asarray(image.convert("RGB"))


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))
