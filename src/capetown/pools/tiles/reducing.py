"""Tiles made smaller, for keeping: a City's worth of originals is 28 GB, and no model sees it."""

from io import BytesIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IMAGEDESCRIPTION

from capetown.pools.tiles.reading import UnreadableTileError, read_raster

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
    longer = max(height, width)
    if longer <= side:
        return data
    if raster.values.dtype != np.uint8 or bands != 3 or raster.white_is_zero:
        raise UnreadableTileError(f"{bands} bands of {raster.values.dtype}: not 8-bit RGB.")
    image = Image.fromarray(np.ascontiguousarray(raster.values))
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    file = BytesIO()
    image.resize(size, FILTER).convert("YCbCr").save(
        file, "TIFF", compression="jpeg", quality=QUALITY,
        tiffinfo={IMAGEDESCRIPTION: f"reduced from {width} x {height} pixels"},
    )  # fmt: skip
    return file.getvalue()
