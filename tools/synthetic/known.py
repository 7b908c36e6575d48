"""Requests with known answers, which every synthetic bucket contains."""

from dataclasses import dataclass

import h3

from capetown.city import RESOLUTION


@dataclass(frozen=True)
class Known:
    """The fixed values of a request.

    `latitude` and `longitude` are text as it stands in the file, so that damaged ones can be
    written too; without a `number` the request may stand anywhere.
    """

    latitude: str
    longitude: str
    number: int | None = None
    suburb: str | None = None

    @property
    def index(self) -> str | None:
        """The H3 cell of the point; None if its coordinates are not valid."""
        try:
            lat, lon = float(self.latitude), float(self.longitude)
        except ValueError:
            return None
        on_earth = abs(lat) <= 90 and abs(lon) <= 180
        return h3.latlng_to_cell(lat, lon, RESOLUTION) if on_earth else None


# Five of the City's own; then two of its points within 2 mm of a cell's edge, where the straight
# line between two vertices gives the wrong cell.
ANSWERS = (
    Known("-33.872839", "18.522488", 400_583_534, "MONTAGUE GARDENS"),
    Known("-34.078916", "18.84894", 400_555_043, "SOMERSET WEST"),
    Known("-34.102242", "18.821116", 400_589_145, "STRAND"),
    Known("-33.920019", "18.607209", 400_538_915, "RAVENSMEAD"),
    Known("-33.9874", "18.45376", 400_568_554, "CLAREMONT"),
    Known("-33.87138874", "18.51291184", None, "MONTAGUE GARDENS"),
    Known("-34.0153414", "18.6108484", None, "LENTEGEUR"),
)
# The City's own three outside its hexagons.
OUTSIDE = (
    Known("-34.044257", "18.774378", 1_015_950_287, "FIRGROVE"),
    Known("-34.044257", "18.774378", 1_016_348_681, "FIRGROVE"),
    Known("-33.904955", "18.72306", 1_016_488_950, "KUILS RIVER"),
)
# Swapped, without the sign, never filled in, in another city; and three that are no place on
# Earth: without the decimal point, metres of the national grid, with a decimal comma.
DAMAGED = (
    Known("18.63211", "-33.90107", None, "BELLVILLE"),
    Known("33.96519", "18.50733", None, "ATHLONE"),
    Known("0", "0"),
    Known("-26.20441", "28.04731"),
    Known("-3398152", "1855416", None, "MANENBERG"),
    Known("-3768230.16", "-45917.62", None, "GRASSY PARK"),
    Known("-33,90312", "18,58847", None, "PAROW"),
)
# The share of all requests that may fail to join: the pipeline stops at a thousandth of those with
# coordinates, which are three in four.
FAILING = 0.0007


def known_requests(count: int) -> tuple[Known, ...]:
    """The known requests of a bucket of `count`, with as many failures as the threshold allows."""
    return (*ANSWERS, *(*OUTSIDE, *DAMAGED)[: int(FAILING * count)])
