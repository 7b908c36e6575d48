"""Facts about Cape Town: names and columns. Another city changes this file, and no other one.

Plain values and no imports of the package, so that every subpackage may read it.
"""

import re
from typing import Literal, NamedTuple

# --- The report -------------------------------------------------------------------------------

# As in "Cape Town from its data" and "Map of Cape Town".
NAME = "Cape Town"
# What the data is about, at the start of the report; may be empty.
INTRODUCTION = (
    f"The City of {NAME} records what its residents report, from blocked sewers to dark street "
    "lights, and photographs itself from the air. Of its open data it asked two things: in which "
    "hexagon of its map did each request arise, and can a computer tell from a photograph whether "
    "there is a swimming pool in it?"
)
# The report shows names in capitals in title case, except for these words, such as "LADWP".
ACRONYMS: frozenset[str] = frozenset()

# --- Objects of the bucket, by key --------------------------------------------------------------

REQUESTS_TABLE = "sr.csv.gz"
HEXAGONS_FILE = "city-hex-polygons-8.geojson"
# Every table and file of hexagons that the bucket is known to hold: a web server that lists nothing
# is asked for these.
TABLES = (
    "city-hex-polygons-8-10.geojson",
    HEXAGONS_FILE,
    REQUESTS_TABLE,
    "sr_hex.csv.gz",
    "sr_hex_truncated.csv",
)

# --- Tiles --------------------------------------------------------------------------------------

# Holds a folder for each class. A manifest in it has the file names of its tiles, one a line; only
# a web server that lists nothing needs it. Begins with `images/`, an out of `dvc.yaml`.
TILES_FOLDER = "images/swimming-pool"
# The classes; their folders have the same names. The last is what the classifier looks for. Another
# city names its folders so, too: the rest of the code knows a pool as "yes".
CLASSES = ("no", "yes")
MANIFEST = "manifest"
# A tile's file name without its ending: `W35A_7_58` is cell 58 of block 7 of sheet W35A.
TILE_NAME = re.compile(r"(?P<sheet>.+)_(?P<block>\d+)_(?P<cell>\d+)")
# Blocks a side of a sheet, and cells a side of a block. Both are counted from 1, row by row.
BLOCKS_ACROSS, CELLS_ACROSS = 5, 10
# Side of a tile on the ground, for texts.
TILE_METRES = 100
# Side east or west of 19° E, column and row of 10-km squares, and the quarter of the square.
SHEET_NAME = re.compile(r"(?P<side>[EW])(?P<column>[0-9])(?P<row>[0-9])(?P<quarter>[A-D])")
# Hartebeesthoek94 / Lo19 with axes east and north, in metres. EPSG:2048 counts west and south.
TILE_CRS = "+proj=tmerc +lat_0=0 +lon_0=19 +k=1 +x_0=0 +y_0=0 +ellps=WGS84 +units=m +no_defs"
# Upper edge of the northernmost squares.
GRID_TOP = -3_700_000


class Bounds(NamedTuple):
    """A rectangle in `TILE_CRS`, in metres."""

    left: int
    bottom: int
    right: int
    top: int


def tile_bounds(name: str) -> Bounds | None:
    """Return where a tile lies, from its name alone; None if the grid has no such tile.

    The order of blocks is published. The order of cells in a block is inferred from tiles that are
    known to touch. Blocks at the coast are cut off, and the numbering of their cells is unknown.

    Args:
        name: without suffix. `W35A_7_58` is cell 58 of block 7 of sheet W35A.
    """
    parts = TILE_NAME.fullmatch(name)
    sheet = SHEET_NAME.fullmatch(parts["sheet"]) if parts else None
    if not parts or not sheet:
        return None
    block, cell = int(parts["block"]) - 1, int(parts["cell"]) - 1
    if not (0 <= block < BLOCKS_ACROSS**2 and 0 <= cell < CELLS_ACROSS**2):
        return None
    column, row, quarter = int(sheet["column"]), int(sheet["row"]), "ABCD".index(sheet["quarter"])
    # There are eleven rows. Row 0 is the first for the southern quarters, the last for the others.
    if row == 0 and quarter < 2:
        row = 10
    squares = -(column + 1) if sheet["side"] == "W" else column
    block_row, block_column = divmod(block, BLOCKS_ACROSS)
    cell_row, cell_column = divmod(cell, CELLS_ACROSS)
    left = 10_000 * squares + 5_000 * (quarter % 2) + 1_000 * block_column + 100 * cell_column
    top = GRID_TOP - 10_000 * row - 5_000 * (quarter // 2) - 1_000 * block_row - 100 * cell_row
    return Bounds(left, top - 100, left + 100, top)


# --- The map ----------------------------------------------------------------------------------

# Corners, longitude and latitude, of a rough shape that covers the neighbours' land and ends inside
# the City's hexagons: with them it is the land, and what is left is the sea. Without corners, or
# with none near the hexagons, the map shows no sea.
NEIGHBOURS: tuple[tuple[float, float], ...] = (
    (18.33, -33.47), (18.17, -33.33), (18.03, -33.09), (19.60, -33.09), (19.60, -34.45),
    (19.24, -34.42), (19.03, -34.345), (18.92, -34.375), (18.83, -34.386), (18.86, -34.32),
    (18.88, -34.15), (18.75, -34.00), (18.55, -33.80),
)  # fmt: skip
# Names on the sea, with longitude and latitude of their middle.
WATERS: tuple[tuple[str, float, float], ...] = (
    ("Atlantic Ocean", 18.35, -33.74),
    ("Table Bay", 18.44, -33.87),
    ("False Bay", 18.65, -34.22),
)

# --- Requests and hexagons ----------------------------------------------------------------------

# Of H3, of the hexagons' file.
RESOLUTION = 8
# Timestamps that name no zone are taken as this one's; all are kept in it.
TIME_ZONE = "Africa/Johannesburg"
# Forms of timestamps beyond those of ISO 8601, in the notation of strftime: "%m/%d/%Y %I:%M:%S %p"
# is 12/31/2017 11:59:58 PM. The first one that fits a text counts.
TIME_FORMATS: tuple[str, ...] = ()
# The report asks whether hexagons with more pools report more to it. None leaves the question out.
WATER_DIRECTORATE: str | None = "WATER AND SANITATION"
# For the report: requests with coordinates that failed to join earlier, in which data, and of how
# many. None leaves it out.
EARLIER_FAILURES: tuple[str, int, int] | None = ("the City's data of 2020", 3, 729_270)


class Column(NamedTuple):
    """A column that a table must have.

    Attributes:
        name: in the file's header.
        kind: `text`; `category`, text of which there are few different ones; `time`, in ISO 8601
            or one of `TIME_FORMATS`; or `number`.
        nullable: False if every row should have a value.
        meaning: for people.
    """

    name: str
    kind: Literal["text", "category", "time", "number"]
    nullable: bool
    meaning: str


# Columns with a role. Each must be one of `REQUEST_COLUMNS`; the last three may be the same one.
REQUEST_ID = "notification_number"
CREATED, COMPLETED = TIMES = ("creation_timestamp", "completion_timestamp")
LATITUDE, LONGITUDE = COORDINATES = ("latitude", "longitude")
DIRECTORATE = "directorate"  # the department that handles a request
REQUEST_TYPE = "code"
SUBURB = "official_suburb"
# What the report calls a directorate and a suburb: one, and several.
DIRECTORATE_WORDS = ("directorate", "directorates")
SUBURB_WORDS = ("suburb", "suburbs")

REQUEST_COLUMNS = (
    Column(REQUEST_ID, "text", False, "unique number of the request, zero-padded"),
    Column("reference_number", "text", True, "the number that the resident was given"),
    Column(CREATED, "time", False, "when the request was logged, with its zone"),
    Column(COMPLETED, "time", True, "when it was closed, with its zone"),
    Column(DIRECTORATE, "category", True, "the City's directorate in charge"),
    Column("department", "category", True, "department of the directorate"),
    Column("branch", "category", True, "branch of the department"),
    Column("section", "category", True, "section of the branch"),
    Column("code_group", "category", True, "group of kinds of request"),
    Column(REQUEST_TYPE, "category", True, "kind of request"),
    Column("cause_code_group", "category", True, "group of causes, as found on site"),
    Column("cause_code", "category", True, "cause, as found on site"),
    Column(SUBURB, "category", True, "suburb by the City's own division"),
    Column(LATITUDE, "number", True, "degrees north in WGS84, so negative"),
    Column(LONGITUDE, "number", True, "degrees east in WGS84"),
)
# What the City's own join adds to them.
INDEX = f"h3_level{RESOLUTION}_index"

# The property of a hexagon's feature that names its cell.
CELL = "index"
