"""Tiles made smaller, for keeping: a City's worth of originals is 28 GB, and no model sees it."""

from io import BytesIO

from PIL import Image
from PIL.TiffImagePlugin import IMAGEDESCRIPTION

from capetown.pools.tiles.reading import read_tile

# Measured beside other formats and filters: see "Reduced tiles" in benchmarks/README.md.
QUALITY = 90
FILTER = Image.Resampling.BILINEAR


def reduce_tile(data: bytes, side: int) -> bytes:
    """The file of a tile whose longer side has at most so many pixels.

    A larger tile becomes a TIFF of 8-bit RGB, by `read_tile`'s rule, with JPEG compression and
    colours at full resolution; Pillow's filters average over all the pixels that one replaces.
    Tags, such as a place on Earth, are not kept; the description says the size as it came.

    Args:
        data: of a file that `read_tile` reads.
        side: in pixels.

    Returns:
        The new file, or `data` itself if the tile is no larger.

    Raises:
        UnreadableTileError: the reason, if the tile cannot be read.
    """
    image = Image.fromarray(read_tile(BytesIO(data)))
    longer = max(image.size)
    if longer <= side:
        return data
    width, height = (max(1, round(length * side / longer)) for length in image.size)
    before = "{} x {}".format(*image.size)
    came = f"reduced from {before} pixels"
    file = BytesIO()
    image.resize((width, height), FILTER).convert("YCbCr").save(
        file, "TIFF", compression="jpeg", quality=QUALITY, tiffinfo={IMAGEDESCRIPTION: came}
    )
    return file.getvalue()
