"""The location that the name of a tile's file gives. Only `capetown.city` knows the naming."""

from pathlib import PurePosixPath

from affine import Affine

from capetown.city import TILE_CRS, Bounds, tile_bounds
from capetown.imagery.georeference import Georeference, GeoreferenceError

# The largest relative difference of an image's shape from that of its bounds.
TOLERANCE = 0.01


def bounds_of(path: str) -> Bounds | None:
    """The bounds that a file's name gives; None if it gives none."""
    return tile_bounds(PurePosixPath(path).stem)


def georeference_by_name(path: str, width: int, height: int) -> Georeference | None:
    """The georeference of a whole image by its name; None if the name gives no location.

    Args:
        path: or URL of the file.
        width: of the image, in pixels, like the height.

    Raises:
        GeoreferenceError: the image has another shape than the bounds, so it is another area.
    """
    bounds = bounds_of(path)
    if bounds is None:
        return None
    across, down = (bounds.right - bounds.left) / width, (bounds.top - bounds.bottom) / height
    if abs(across / down - 1) > TOLERANCE:
        raise GeoreferenceError(
            f"{width} x {height} pixels do not have the shape of the tile in its name"
        )
    return Georeference(Affine(across, 0, bounds.left, 0, -down, bounds.top), TILE_CRS)
