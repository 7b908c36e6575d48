"""A year of service requests, as the City publishes them.

Everything is drawn for the whole year first, a few bytes a request; the text is made and written
a slice at a time, so that ten million requests fit in memory.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import IO, cast

import h3
import numpy as np
import polars as pl
from numpy.typing import NDArray

from capetown.errors import CapetownError
from capetown.sample.hexagons import RESOLUTION, city_cells
from capetown.sample.places import Places, draw_places, suburbs

FEWEST = 100
# Rows written at a time, and rows of the truncated file.
SLICE, TRUNCATED = 500_000, 1000
MISSING = 0.226
# The share of located requests that come from a place not seen before.
NEW_PLACE = 0.63
BEFORE_CREATION, NEVER_COMPLETED, NO_REFERENCE = 0.0058, 0.004, 0.34
# Requests by month (the lockdown began on 27 March), weekday and hour, as relative rates.
MONTHS = (1.1, 1.05, 0.92, 0.5, 0.7, 0.85, 0.9, 0.92, 1.0, 1.1, 1.08, 0.88)
WEEKDAYS = (1.1, 1.05, 1.0, 1.0, 0.95, 0.4, 0.3)
HOURS = (2, 1, 1, 1, 1, 2, 8, 22, 40, 46, 45, 42, 38, 37, 36, 32, 24, 16, 12, 10, 8, 6, 4, 3)
START = datetime(2020, 1, 1)
DAY = 86_400
LAST_COMPLETION = (datetime(2022, 5, 31) - START).days * DAY
# First number and size of the two number ranges, and the share of requests in each: the mobile
# reporting tool's, and everybody else's.
RANGES = ((400_515_000, 97_000, 0.08), (1_015_700_000, 1_020_000, 0.92))


@dataclass(frozen=True)
class Known:
    """A request whose answer is known, as it stands in the file.

    `latitude` and `longitude` are text, so that damaged ones can be written too.
    """

    latitude: str
    longitude: str
    number: int | None = None
    suburb: str | None = None


# Points with their numbers in the City's own file; then two within 2 mm of a cell's edge.
ANSWERS = (
    Known("-33.872839", "18.522488", 400_583_534, "MONTAGUE GARDENS"),
    Known("-34.078916", "18.84894", 400_555_043, "SOMERSET WEST"),
    Known("-34.102242", "18.821116", 400_589_145, "STRAND"),
    Known("-33.920019", "18.607209", 400_538_915, "RAVENSMEAD"),
    Known("-33.9874", "18.45376", 400_568_554, "CLAREMONT"),
    Known("-33.87138874", "18.51291184", None, "MONTAGUE GARDENS"),
    Known("-34.0153414", "18.6108484", None, "PHILIPPI"),
)
# No more than these fail to join, whatever the number of requests: the City's own three; swapped,
# without the sign, never filled in, another city; then three that are no place on Earth: without
# the decimal point, metres of the national grid, a decimal comma.
FAILURES = (
    Known("-34.044257", "18.774378", 1_015_950_287, "FIRGROVE"),
    Known("-34.044257", "18.774378", 1_016_348_681, "FIRGROVE"),
    Known("-33.904955", "18.72306", 1_016_488_950, "KUILS RIVER"),
    Known("18.63211", "-33.92107", None, "BELLVILLE"),
    Known("33.96519", "18.50733", None, "ATHLONE"),
    Known("0", "0", None, None),
    Known("-26.20441", "28.04731", None, None),
    Known("-3398152", "1855416", None, "MANENBERG"),
    Known("-3768230.16", "-45917.62", None, "GRASSY PARK"),
    Known("-33,90312", "18,58847", None, "PAROW"),
)


@dataclass(frozen=True)
class Year:
    """A year of requests in creation order, one entry a request.

    Attributes:
        number: notification number.
        created: seconds since the start of 2020, local time.
        place: row in `places`.
        code: row in the catalogue.
        located: False where the coordinates are missing.
        known: known requests by position.
    """

    number: NDArray[np.int64]
    created: NDArray[np.int32]
    place: NDArray[np.int32]
    code: NDArray[np.int16]
    located: NDArray[np.bool_]
    known: dict[int, Known]
    places: Places


def write_requests(folder: Path, count: int, seed: int) -> None:
    """Write `sr.csv.gz`, `sr_hex.csv.gz` and `sr_hex_truncated.csv` in `folder`.

    Raises:
        CapetownError: `count` is below 100.
    """
    if count < FEWEST:
        raise CapetownError(f"--requests {count}: make it {FEWEST} or more")
    year = draw_year(count, np.random.default_rng([seed, 1]))
    with _gzip(folder / "sr.csv.gz") as plain, _gzip(folder / "sr_hex.csv.gz") as indexed:
        for number, frame in enumerate(frames(year, np.random.default_rng([seed, 2]))):
            requests = frame.drop("counter")
            if number == 0:
                requests.head(TRUNCATED).write_csv(folder / "sr_hex_truncated.csv")
                indexed.write((",".join(requests.columns) + "\n").encode())
                plain.write(("," + ",".join(requests.columns[:-1]) + "\n").encode())
            requests.write_csv(indexed, include_header=False)
            frame.drop("h3_level8_index").write_csv(plain, include_header=False)


def catalogue() -> pl.DataFrame:
    """What is asked for and of whom: one row a kind of request, with its relative frequency.

    `lost_weight` is how readily such a request comes without coordinates; `median_days` how long
    it takes.
    """
    return pl.read_csv((files("capetown.sample") / "catalogue.csv").read_bytes())


def draw_year(count: int, rng: np.random.Generator) -> Year:
    """Draw a year of `count` requests."""
    table = catalogue()
    created = _creation_times(count, rng)
    number = _numbers(count, rng)
    share = np.cumsum(table["weight"].to_numpy())
    code = np.searchsorted(share / share[-1], rng.random(count), side="right").astype(np.int16)
    new = rng.random(count) < NEW_PLACE
    new[0] = True
    seen = np.cumsum(new)
    place = np.where(new, seen - 1, (rng.random(count) ** 2 * seen).astype(np.int64))
    rng.shuffle(place)
    known = _positions(number, rng)
    patience = rng.standard_exponential(count) / table["lost_weight"].to_numpy()[code]
    patience[list(known)] = np.inf
    located = np.ones(count, dtype=np.bool_)
    located[np.argsort(patience, kind="stable")[: round(MISSING * count)]] = False
    places = draw_places(int(seen[-1]), rng)
    return Year(number, created, place.astype(np.int32), code, located, known, places)


def frames(year: Year, rng: np.random.Generator) -> Iterator[pl.DataFrame]:
    """The year as the City writes it, all columns text, half a million rows at a time.

    Columns: `counter`, the City's fifteen, `h3_level8_index`.
    """
    table, names = catalogue(), suburbs()["suburb"]
    cells = pl.Series(city_cells())
    days = table["median_days"].to_numpy()
    for start in range(0, len(year.number), SLICE):
        part = slice(start, start + SLICE)
        number, created, place = year.number[part], year.created[part], year.place[part]
        size = len(number)
        code, located = year.code[part], pl.Series(year.located[part])
        delay = np.exp(rng.standard_normal(size) * 1.7) * days[code] * DAY
        completed = np.minimum(created + delay + 60, LAST_COMPLETION - created % DAY)
        skewed = rng.random(size) < BEFORE_CREATION
        early = created - rng.integers(1, 901, size)
        completed = np.where(skewed, early, completed).astype(np.int64)
        finished = pl.Series(skewed | (rng.random(size) >= NEVER_COMPLETED))
        reference = 9_107_500_000 + np.arange(start, start + size) * 3 + rng.integers(0, 3, size)
        referenced = pl.Series(rng.random(size) >= NO_REFERENCE)
        here = year.places
        frame = table.select("directorate", "department", "branch", "section", "code_group",
                             "code", "cause_code_group", "cause_code")[code]  # fmt: skip
        suburb = names[here.suburb[place]]
        yield _with_known(
            frame.select(
                pl.Series("counter", np.arange(start, start + size)),
                pl.Series("notification_number", number).cast(pl.String).str.zfill(12),
                _where(referenced, pl.Series("reference_number", reference).cast(pl.String)),
                _timestamps("creation_timestamp", created),
                _where(finished, _timestamps("completion_timestamp", completed)),
                pl.all(),
                _where(located, suburb.alias("official_suburb")),
                _where(located, _text("latitude", here.latitude[place])),
                _where(located, _text("longitude", here.longitude[place])),
                _where(located, cells[here.cell[place]].alias("h3_level8_index"), "0"),
            ),
            {k - start: v for k, v in year.known.items() if start <= k < start + size},
        )


def index_of(latitude: str, longitude: str) -> str | None:
    """The cell of a point given as text; None where it is no place on Earth."""
    try:
        lat, lon = float(latitude), float(longitude)
    except ValueError:
        return None
    return h3.latlng_to_cell(lat, lon, RESOLUTION) if abs(lat) <= 90 and abs(lon) <= 180 else None


@contextmanager
def _gzip(path: Path) -> Iterator[IO[bytes]]:
    # No name and no time in the header; zlib rather than isal, whose output depends on the CPU.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed:
        yield cast(IO[bytes], compressed)


def _creation_times(count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    hours = np.arange(np.datetime64("2020-01-01T00"), np.datetime64("2021-01-01T00"))
    days = hours.astype("datetime64[D]")
    month = (days.astype("datetime64[M]").astype(int)) % 12
    weekday = (days.astype(int) + 3) % 7
    rate = np.array(MONTHS)[month] * np.array(WEEKDAYS)[weekday]
    total = np.concatenate([[0], np.cumsum(rate * np.tile(HOURS, len(hours) // 24))])
    drawn = np.sort(rng.random(count)) * total[-1]
    return np.interp(drawn, total, np.arange(len(total)) * 3600.0).astype(np.int32)


def _numbers(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Unique numbers that grow in time within each range, the known ones among them."""
    mobile = rng.permutation(count) < round(RANGES[0][2] * count)
    numbers = np.empty(count, dtype=np.int64)
    known = [known.number for known in (*ANSWERS, *FAILURES) if known.number]
    for (first, span, _), rows in zip(RANGES, (mobile, ~mobile), strict=True):
        size = int(rows.sum())
        kept = [number for number in known if first <= number < first + span]
        free = np.delete(np.arange(max(span, size * 11 // 10)), np.array(kept) - first)
        drawn = first + rng.choice(free, size - len(kept), replace=False, shuffle=False)
        numbers[rows] = np.sort(np.concatenate([drawn, kept]))
    return numbers


def _positions(number: NDArray[np.int64], rng: np.random.Generator) -> dict[int, Known]:
    everyone = (*ANSWERS, *FAILURES)
    placed = {int(np.flatnonzero(number == k.number)[0]): k for k in everyone if k.number}
    free = np.setdiff1d(np.arange(len(number)), list(placed))
    rest = [known for known in everyone if not known.number]
    spots = rng.choice(free, len(rest), replace=False)
    return placed | dict(zip(spots.tolist(), rest, strict=True))


def _where(keep: pl.Series, values: pl.Series, otherwise: str | None = None) -> pl.Series:
    return values.zip_with(keep, pl.Series([otherwise], dtype=pl.String)).alias(values.name)


def _text(name: str, values: NDArray[np.float64]) -> pl.Series:
    return pl.Series(name, values).cast(pl.String)


def _timestamps(name: str, seconds: NDArray[np.integer]) -> pl.Series:
    times = np.datetime64(START, "s") + seconds.astype("timedelta64[s]")
    return pl.Series(name, times.astype("datetime64[ms]")).dt.strftime("%Y-%m-%d %H:%M:%S+02:00")


def _with_known(frame: pl.DataFrame, known: dict[int, Known]) -> pl.DataFrame:
    rows = sorted(known)
    new = {
        "official_suburb": [known[k].suburb for k in rows],
        "latitude": [known[k].latitude for k in rows],
        "longitude": [known[k].longitude for k in rows],
        "h3_level8_index": [index_of(known[k].latitude, known[k].longitude) for k in rows],
    }
    changed = [
        frame[column].scatter(rows, pl.Series(values, dtype=pl.String))
        for column, values in new.items()
    ]
    return frame.with_columns(changed) if rows else frame
