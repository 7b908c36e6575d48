"""The first image of a TIFF file as what its own tags say: bands, their range, and which to show.

Decoded by tifffile and imagecodecs; the commonest kind, 8-bit RGB under LZW or Deflate, by libtiff,
which is three times as fast. What the tags say that cannot be shown faithfully is refused by name.
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

# A tile is a few hundred pixels a side. What is larger is a mosaic or a mistake, and squeezing it
# into a model's input would leave no pool to see.
MAX_SIDE = 4096
MAX_BYTES = 2**30
# How the description of a tile begins that was reduced for keeping: its size as it came.
REDUCED = re.compile(r"reduced from (\d+) x (\d+) pixels")
Pixels = npt.NDArray[np.uint8]
BYTE_ORDERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
GREY, COLOUR = (0, 0, 0), (0, 1, 2)
BY_LIBTIFF = (COMPRESSION.LZW, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
# The decoders of these turn YCbCr into RGB.
TO_RGB = (COMPRESSION.JPEG, COMPRESSION.OJPEG, COMPRESSION.WEBP, COMPRESSION.JPEG2000)

# A damaged tile is one error of ours, not warnings besides.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class UnreadableTileError(CapetownError):
    """A tile cannot be used, and why."""


class TooLargeError(UnreadableTileError):
    """An image has more pixels or bytes than a tile, and how many."""


@dataclass(frozen=True)
class Raster:
    """An image before it is made 8-bit RGB.

    Attributes:
        values: numbers, shape (height, width, bands), the right way up.
        largest: what stands for white; None if the type of the values does not say.
        shown: the three bands to show; None if the file does not say.
        white_is_zero: True if the smallest value stands for white.
        resolution: side of a pixel on the ground, in the file's own unit; 0 if it does not say.
        side: the longer one, before the tile was reduced for keeping, if its description says so.
        orientation: how it was stored, as in TIFF and EXIF: 1 is as it is here.
    """

    values: npt.NDArray[Any]
    largest: int | None = 255
    shown: tuple[int, ...] | None = COLOUR
    white_is_zero: bool = False
    resolution: float = 0.0
    side: int = 0
    orientation: int = 1


def check_size(width: int, height: int) -> None:
    """Refuse what is too large for a tile, or nothing at all.

    Raises:
        UnreadableTileError: it is.
    """
    if max(width, height) > MAX_SIDE:
        raise TooLargeError(f"{width} x {height} pixels, over {MAX_SIDE} a side: no tile.")
    if min(width, height) < 1:
        raise UnreadableTileError(f"{width} x {height} pixels: no image.")


def read_tiff(file: BinaryIO) -> Raster:
    """Read the first image of a TIFF file.

    Raises:
        UnreadableTileError: the reason, if the image cannot be shown faithfully.
        Exception: of any kind, from a decoder, if the file is damaged.
    """
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        _check(page, tiff.filehandle.size)
        values = _turn(_decode(page, file), page)
        raster = _interpret(page, values)
        scale = page.tags.valueof(33550)  # GeoTIFF's ModelPixelScale
        resolution = float(scale[0]) if scale and scale[0] > 0 else 0.0
        reduced = REDUCED.match(page.description)
        side = max(map(int, reduced.groups())) if reduced else max(values.shape[:2])
        orientation = page.tags.valueof(274, default=1)
        return replace(raster, resolution=resolution, side=side, orientation=orientation)


def _check(page: Any, file_size: int) -> None:
    check_size(page.imagewidth, page.imagelength)
    if page.imagedepth != 1:
        raise UnreadableTileError(f"{page.imagedepth} layers of pixels: no tile.")
    if not isinstance(page.bitspersample, int):
        bits = ", ".join(map(str, page.bitspersample))
        raise UnreadableTileError(f"bands of different depths: {bits} bits.")
    if page.dtype is None or page.dtype.kind not in "buif":
        form = getattr(page.sampleformat, "name", page.sampleformat)
        raise UnreadableTileError(f"pixels of type {form}, {page.bitspersample} bits: not numbers.")
    tile = max(page.tilewidth, page.tilelength) if page.is_tiled else 0
    if page.nbytes > MAX_BYTES or tile > 2 * MAX_SIDE:
        raise UnreadableTileError(f"{page.samplesperpixel} bands: more than a tile has.")
    if page.compression != COMPRESSION.NONE and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise UnreadableTileError(f"compressed as {_name(page.compression)}: cannot be read.")
    # tifffile would fill what is missing with zeros; blocks that the file leaves out are zeros.
    if max(np.add(page.dataoffsets, page.databytecounts)) > file_size:
        raise UnreadableTileError("damaged: the file ends before its pixels do.")


def _decode(page: Any, file: BinaryIO) -> npt.NDArray[Any]:
    """The samples as they are stored, shape (height, width, bands)."""
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
        raise UnreadableTileError("YCbCr of fewer colours than pixels, not JPEG: cannot be read.")
    else:
        values = page.asarray(maxworkers=1)
    # (planes, depth, height, width, samples)
    height, width = page.imagelength, page.imagewidth
    values = np.moveaxis(values.reshape(page.shaped)[:, 0], 0, 2).reshape(height, width, -1)
    return values.astype(np.uint8) if values.dtype == bool else values


def _turn(values: npt.NDArray[Any], page: Any) -> npt.NDArray[Any]:
    """Put an image the right way up, by TIFF's Orientation."""
    orientation = page.tags.valueof(274, default=1)
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _interpret(page: Any, values: npt.NDArray[Any]) -> Raster:
    """The bands and what they stand for, by TIFF's PhotometricInterpretation."""
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
            # Some writers fill 8 of the 16 bits.
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
    raise UnreadableTileError(f"colours as {_name(page.photometric)}, {bits}: cannot be shown.")


def _straight(page: Any, values: npt.NDArray[Any], largest: int | None) -> npt.NDArray[Any]:
    """The bands without the alpha that they were multiplied by, if they were."""
    extras = list(page.extrasamples)
    if EXTRASAMPLE.ASSOCALPHA not in extras:
        return values
    if largest is None:
        raise UnreadableTileError(f"alpha multiplied into pixels of type {page.dtype}.")
    band = values.shape[2] - len(extras) + extras.index(EXTRASAMPLE.ASSOCALPHA)
    alpha = values[..., band : band + 1].astype(np.uint32)
    if (values[..., : values.shape[2] - len(extras)] > alpha).any():
        return values  # a product cannot be above its factor: the tag is wrong, as is common
    straight = (values * np.uint32(largest) + alpha // 2) // np.maximum(alpha, 1)
    straight = np.minimum(straight, largest)
    straight[..., band] = values[..., band]
    return np.asarray(straight, values.dtype)


def _is_plain_ycbcr(page: Any) -> bool:
    """True if YCbCr is as in JPEG: by ITU-R BT.601, of the full range."""
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
