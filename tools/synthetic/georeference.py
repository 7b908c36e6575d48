"""Georeferences of synthetic tiles, as GeoTIFF tags.

The true places of the City's map sheets are not known here: each sheet gets a square of the metro,
the first one where most people live, and its tiles lie in it by their names.
"""

from functools import cache

import numpy as np
import pyproj
import shapely
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from capetown.city import BLOCKS_ACROSS, CELLS_ACROSS, TILE_NAME
from capetown.errors import CapetownError
from tools.synthetic.hexagons import BOUNDS, OUTLINE
from tools.synthetic.places import suburbs

# UTM zone 34 south, in WGS84.
CRS = 32734
PIXEL_SCALE, TIE_POINT, KEYS = 33550, 33922, 34735
# GeoTIFF's directory of keys: projected, pixels are areas, and the CRS; each is a short, held here.
DIRECTORY = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, CRS)
DOUBLE, SHORT = 12, 3


def tags(name: str, number: int, side: int, metres: int) -> ImageFileDirectory_v2:
    """The tags of a tile's place.

    Args:
        name: the tile's, SHEET_BLOCK_CELL.
        number: of its sheet, from 0 in the order of their making.
        side: of the tile, in pixels.
        metres: likewise.

    Raises:
        CapetownError: if there are more sheets than squares.
    """
    found = TILE_NAME.match(name)
    if found is None or number >= len(squares(metres)):
        raise CapetownError("no area is left for its map sheet", where=name, fix="use fewer tiles")
    west, north = squares(metres)[number]
    down, across = divmod(int(found["block"]) - 1, BLOCKS_ACROSS)
    row, column = divmod(int(found["cell"]) - 1, CELLS_ACROSS)
    x = west + (across * CELLS_ACROSS + column) * metres
    y = north - (down * CELLS_ACROSS + row) * metres
    directory = ImageFileDirectory_v2()
    directory.tagtype |= {PIXEL_SCALE: DOUBLE, TIE_POINT: DOUBLE, KEYS: SHORT}
    directory[PIXEL_SCALE] = (metres / side, metres / side, 0.0)
    directory[TIE_POINT] = (0.0, 0.0, 0.0, float(x), float(y), 0.0)
    directory[KEYS] = DIRECTORY
    return directory


@cache
def squares(metres: int) -> list[tuple[int, int]]:
    """West and north, in metres, of squares of a sheet's size; those inside the metro come first.

    Those nearest to the middle of its suburbs come before the others.
    """
    size = BLOCKS_ACROSS * CELLS_ACROSS * metres
    to_utm = pyproj.Transformer.from_crs("OGC:CRS84", CRS, always_xy=True)
    x, y = to_utm.transform(*np.array([BOUNDS[:2], BOUNDS[2:]]).T)
    wests = np.arange(x.min() // size, x.max() // size + 1) * size
    norths = np.arange(y.min() // size, y.max() // size + 1) * size
    corners = np.stack(np.meshgrid(wests, norths), axis=-1).reshape(-1, 2)
    middles = corners + np.array([size / 2, -size / 2])
    outline = shapely.Polygon(np.column_stack(to_utm.transform(*np.array(OUTLINE).T)))
    outside = ~shapely.contains_xy(outline, middles)
    table = suburbs()
    centre = np.average(
        table.select("longitude", "latitude").to_numpy(), axis=0, weights=table["weight"].to_numpy()
    )
    away = np.hypot(*(middles - to_utm.transform(*centre)).T)
    order = np.lexsort((away, outside))
    return [(int(west), int(north)) for west, north in corners[order]]
