"""Downsample tiles for storage. The originals take 28 GB, and no model uses that resolution."""

from dataclasses import replace
from io import BytesIO

import numpy as np
from affine import Affine
from PIL import Image
from PIL.TiffImagePlugin import IMAGEDESCRIPTION, ImageFileDirectory_v2

from capetown.imagery.georeference import Georeference, Located, geotiff_tags, tags_of_file
from capetown.imagery.reading import UnreadableTileError, read_raster
from capetown.imagery.tiff import Raster

# Compared with other formats and filters in benchmarks/README.md, "Reduced tiles".
QUALITY = 90
FILTER = Image.Resampling.BILINEAR
NOWHERE = Located()


def reduce_tile(data: bytes, side: int) -> bytes:
    """Reduce a tile of 8-bit RGB to a TIFF with JPEG compression, without chroma subsampling.

    Its description contains the original size. Its georeference is kept, other tags are dropped. A
    tile with at most `side` pixels per side is returned unchanged.

    Raises:
        UnreadableTileError: the tile cannot be read, or is not 8-bit RGB.
        GeoreferenceError: its tags cannot be read.
    """
    raster = read_raster(BytesIO(data))
    height, width, bands = raster.values.shape
    if max(height, width) <= side:
        return data
    if not _is_plain(raster):
        raise UnreadableTileError(f"{bands} bands of {raster.values.dtype}: not 8-bit RGB")
    return _encode(raster, side, tags_of_file(data))


def reduce_raster(raster: Raster, side: int) -> Raster:
    """An image with exactly the pixels that `reduce_tile` would store.

    The losses of JPEG matter to a network that was trained on reduced tiles. Without them, one
    decision in twenty changed: see "Reduced tiles" in benchmarks/README.md. A side of 0 is no
    limit.
    """
    if not 0 < side < max(raster.values.shape[:2]) or not _is_plain(raster):
        return raster
    return replace(read_raster(BytesIO(_encode(raster, side))), resolution=raster.resolution)


def _is_plain(raster: Raster) -> bool:
    """True for 8-bit RGB."""
    values = raster.values
    return values.dtype == np.uint8 and values.shape[2] == 3 and not raster.white_is_zero


def _encode(raster: Raster, side: int, tags: Located = NOWHERE) -> bytes:
    height, width = raster.values.shape[:2]
    longer = max(height, width)
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    transform = None
    if tags.transform is not None:
        upright = Georeference(tags.transform, "").upright(raster.orientation, width, height)
        transform = upright.transform @ Affine.scale(width / size[0], height / size[1])
    image = Image.fromarray(np.ascontiguousarray(raster.values))
    info = ImageFileDirectory_v2()
    info[IMAGEDESCRIPTION] = f"reduced from {width} x {height} pixels"
    for tag, kind, value in geotiff_tags(transform, tags.crs):
        info.tagtype[tag] = kind
        info[tag] = value
    file = BytesIO()
    image.resize(size, FILTER).convert("YCbCr").save(
        file, "TIFF", compression="jpeg", quality=QUALITY, tiffinfo=info
    )
    return file.getvalue()
