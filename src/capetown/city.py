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

# Holds a folder for each class, and in each a manifest: the file names of its tiles, one a line.
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
