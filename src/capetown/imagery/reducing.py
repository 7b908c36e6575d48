"""Tiles made smaller, for keeping: a City's worth of originals is 28 GB, and no model sees it."""

from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IMAGEDESCRIPTION

from capetown.imagery.reading import UnreadableTileError, read_raster
from capetown.imagery.tiff import Raster

# Measured beside other formats and filters: see "Reduced tiles" in benchmarks/README.md.
QUALITY = 90
FILTER = Image.Resampling.BILINEAR


def reduce_tile(data: bytes, side: int) -> bytes:
    """The file of a tile whose longer side has at most so many pixels.

    A larger tile of 8-bit RGB becomes a TIFF with JPEG compression and colours at full resolution;
    Pillow's filters average over all the pixels that one replaces. Its description says how large
    it was. Other tags, such as a place on Earth, are not kept.

    Args:
        data: of a tile.
        side: in pixels.

    Returns:
        The new file, or `data` itself if the tile is no larger.

    Raises:
        UnreadableTileError: the reason, if the tile cannot be read or would lose more than pixels.
    """
    raster = read_raster(BytesIO(data))
    height, width, bands = raster.values.shape
    if max(height, width) <= side:
        return data
    if not _is_plain(raster):
        raise UnreadableTileError(f"{bands} bands of {raster.values.dtype}: not 8-bit RGB.")
    return _encode(raster, side)


def reduce_raster(raster: Raster, side: int) -> Raster:
    """An image as it is read from the file that `reduce_tile` makes, to the last bit.

    JPEG's losses are part of what a network learned from: without them one decision in twenty
    changed, see "Reduced tiles" in benchmarks/README.md.

    Args:
        raster: the image.
        side: pixels that its longer side has at most; 0 for any.
    """
    if not 0 < side < max(raster.values.shape[:2]) or not _is_plain(raster):
        return raster
    return replace(read_raster(BytesIO(_encode(raster, side))), resolution=raster.resolution)


def _is_plain(raster: Raster) -> bool:
    """True for 8-bit RGB, which loses nothing but pixels."""
    values = raster.values
    return values.dtype == np.uint8 and values.shape[2] == 3 and not raster.white_is_zero


def _encode(raster: Raster, side: int) -> bytes:
    height, width = raster.values.shape[:2]
    longer = max(height, width)
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    image = Image.fromarray(np.ascontiguousarray(raster.values))
    file = BytesIO()
    image.resize(size, FILTER).convert("YCbCr").save(
        file, "TIFF", compression="jpeg", quality=QUALITY,
        tiffinfo={IMAGEDESCRIPTION: f"reduced from {width} x {height} pixels"},
    )  # fmt: skip
    return file.getvalue()
