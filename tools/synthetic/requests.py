"""A year of service requests, as the City publishes them.

The year is drawn whole, a few bytes a request; its text is made and written a slice at a time,
so that ten million requests fit in memory.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tools.synthetic.hexagons import city_cells
from tools.synthetic.known import Known, known_requests
from tools.synthetic.places import Places, draw_places, suburbs

# Rows written at a time, and rows of the truncated file.
SLICE, TRUNCATED = 500_000, 1000
MISSING = 0.226
# The share of requests that come from a place of their own.
NEW_PLACE = 0.59
BEFORE_CREATION, NEVER_COMPLETED, NO_REFERENCE = 0.0058, 0.004, 0.34
# Requests by month (the lockdown began on 27 March), weekday and hour, as relative rates.
MONTHS = (1.1, 1.05, 0.92, 0.5, 0.7, 0.85, 0.9, 0.92, 1.0, 1.1, 1.08, 0.88)
WEEKDAYS = (1.1, 1.05, 1.0, 1.0, 0.95, 0.4, 0.3)
HOURS = (2, 1, 1, 1, 1, 2, 8, 22, 40, 46, 45, 42, 38, 37, 36, 32, 24, 16, 12, 10, 8, 6, 4, 3)
# Natural logarithm of the ratio of a slow completion to the median one.
SLOWNESS = 1.9
DAY = 86_400
START = np.datetime64("2020-01-01T00:00:00")
LAST_DAY = int((np.datetime64("2022-05-31") - START).astype("timedelta64[D]").astype(int))
# First number and size of the two number ranges: the reporting app's, and everybody else's.
APP, OTHERS, APP_SHARE = (400_515_000, 97_000), (1_015_700_000, 1_020_000), 0.08
FIRST_REFERENCE, REFERENCES = 9_107_500_000, 2_900_000
WORDS = (
    "directorate", "department", "branch", "section",
    "code_group", "code", "cause_code_group", "cause_code",
)  # fmt: skip


@dataclass(frozen=True)
class Year:
    """A year of requests in creation order, one entry a request.

    Attributes:
        number: notification number.
        created: seconds since the start of 2020, local time.
        place: position in `places`.
        code: row of `catalogue()`.
        located: False where the coordinates are missing.
        known: the known requests by position.
        places: where requests come from.
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

    Args:
        folder: where to write.
        count: requests, at least 100: the known ones have to fit in.
        seed: of everything random.
    """
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
    """The kinds of request, one per row, with the directorate in charge.

    `weight` and `informal_weight` are how often it comes from a formal suburb and from an
    informal settlement, `lost_weight` how readily it comes without coordinates, `median_days` how
    long it takes.
    """
    return pl.read_csv((files("tools.synthetic") / "catalogue.csv").read_bytes())


def draw_year(count: int, rng: np.random.Generator) -> Year:
    """Draw a year of `count` requests."""
    created = _creation_times(count, rng)
    number = _numbers(count, rng)
    new = rng.random(count) < NEW_PLACE
    new[0] = True
    seen = np.cumsum(new)
    # An old place is more likely the older it is: a few places ask again and again.
    place = np.where(new, seen - 1, (rng.random(count) ** 2 * seen).astype(np.int64))
    rng.shuffle(place)
    places = draw_places(int(seen[-1]), rng)
    code = _codes(places.suburb[place], rng)
    known = _positions(number, rng)
    patience = rng.standard_exponential(count) / catalogue()["lost_weight"].to_numpy()[code]
    patience[list(known)] = np.inf
    located = np.ones(count, dtype=np.bool_)
    located[np.argsort(patience, kind="stable")[: round(MISSING * count)]] = False
    return Year(number, created, place.astype(np.int32), code, located, known, places)


def frames(year: Year, rng: np.random.Generator) -> Iterator[pl.DataFrame]:
    """The year as the City writes it, half a million rows at a time.

    Yields:
        Frames of `counter`, the City's fifteen columns and `h3_level8_index`, all but `counter`
        text.
    """
    words, kinds = _words(), len(catalogue())
    days, names = catalogue()["median_days"].to_numpy(), suburbs()["suburb"]
    cells, places, total = pl.Series(city_cells()), year.places, len(year.number)
    step = max(REFERENCES // total, 3)
    for start in range(0, total, SLICE):
        part = slice(start, start + SLICE)
        created, place, code = year.created[part], year.place[part], year.code[part]
        size, suburb = len(created), places.suburb[place]
        counter = np.arange(start, start + size)
        reference = FIRST_REFERENCE + counter * step + rng.integers(0, step, size)
        completed = _completion_times(created, days[code], rng)
        given = pl.Series(rng.random(size) >= NO_REFERENCE)
        finished = pl.Series(rng.random(size) >= NEVER_COMPLETED)
        located = pl.Series(year.located[part])
        row = suburb.astype(np.int64) * kinds + code
        yield _with_known(
            pl.DataFrame(
                [
                    pl.Series("counter", counter),
                    _text("notification_number", year.number[part]).str.zfill(12),
                    _where(given, _text("reference_number", reference)),
                    _timestamps("creation_timestamp", created),
                    _where(finished, _timestamps("completion_timestamp", completed)),
                    *words[row].get_columns(),
                    _where(located, names[suburb].alias("official_suburb")),
                    _where(located, _text("latitude", places.latitude[place])),
                    _where(located, _text("longitude", places.longitude[place])),
                    _where(located, cells[places.cell[place]].alias("h3_level8_index"), "0"),
                ]
            ),
            {k - start: v for k, v in year.known.items() if start <= k < start + size},
        )


@contextmanager
def _gzip(path: Path) -> Iterator[IO[bytes]]:
    # No name and no time in the header; not isal, whose bytes depend on the processor.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed:
        yield cast(IO[bytes], compressed)


def _creation_times(count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    hours = np.arange(np.datetime64("2020-01-01T00"), np.datetime64("2021-01-01T00"))
    month = hours.astype("datetime64[M]").astype(int) % 12
    weekday = (hours.astype("datetime64[D]").astype(int) + 3) % 7
    rate = np.array(MONTHS)[month] * np.array(WEEKDAYS)[weekday]
    total = np.concatenate([[0], np.cumsum(rate * np.tile(HOURS, len(hours) // 24))])
    drawn = np.sort(rng.random(count)) * total[-1]
    seconds = np.interp(drawn, total, np.arange(len(total)) * 3600.0)
    return np.asarray(seconds, dtype=np.int32)


def _completion_times(
    created: NDArray[np.int32], median: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Some time later, at most in May 2022; a few up to a quarter of an hour before creation."""
    delay = np.exp(rng.standard_normal(len(created)) * SLOWNESS) * median * DAY
    later = np.minimum(created + delay + 60, LAST_DAY * DAY + created % DAY)
    skewed = rng.random(len(created)) < BEFORE_CREATION
    return np.where(skewed, created - rng.integers(1, 901, len(created)), later).astype(np.int64)


def _numbers(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Unique numbers, growing in time within each range, the known ones among them."""
    numbers = np.empty(count, dtype=np.int64)
    app = rng.permutation(count) < round(APP_SHARE * count)
    for (first, span), rows in ((APP, app), (OTHERS, ~app)):
        size = int(rows.sum())
        fixed = (one.number for one in known_requests(count) if one.number)
        kept = np.array([n for n in fixed if 0 <= n - first < span], dtype=np.int64)
        free = np.delete(np.arange(max(span, size * 11 // 10)), kept - first)
        drawn = first + rng.choice(free, size - len(kept), replace=False, shuffle=False)
        numbers[rows] = np.sort(np.concatenate([drawn, kept]))
    return numbers


def _codes(suburb: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """Rows of the catalogue, as often as the suburb's kind asks for each."""
    drawn, informal = rng.random(len(suburb)), suburbs()["informal"].to_numpy()[suburb] == 1
    codes = np.empty(len(suburb), dtype=np.int16)
    for column, rows in (("weight", ~informal), ("informal_weight", informal)):
        total = np.cumsum(catalogue()[column].to_numpy())
        codes[rows] = np.searchsorted(total / total[-1], drawn[rows], side="right")
    return codes


def _positions(number: NDArray[np.int64], rng: np.random.Generator) -> dict[int, Known]:
    fixed = known_requests(len(number))
    placed = {int(np.flatnonzero(number == k.number)[0]): k for k in fixed if k.number}
    free = np.setdiff1d(np.arange(len(number)), list(placed))
    rest = [known for known in fixed if not known.number]
    spots = rng.choice(free, len(rest), replace=False)
    return placed | dict(zip(spots.tolist(), rest, strict=True))


def _words() -> pl.DataFrame:
    """The catalogue's texts for each suburb in turn, who is in charge filled in."""
    table = suburbs().select("area", "district").join(catalogue(), how="cross")
    filled = pl.col(WORDS)
    for name in ("area", "district"):
        filled = filled.str.replace(f"{{{name}}}", pl.col(name), literal=True)
    return table.select(filled)


def _where(keep: pl.Series, values: pl.Series, otherwise: str | None = None) -> pl.Series:
    return values.zip_with(keep, pl.Series([otherwise], dtype=pl.String)).alias(values.name)


def _text(name: str, values: NDArray[np.int64] | NDArray[np.float64]) -> pl.Series:
    return pl.Series(name, values).cast(pl.String)


def _timestamps(name: str, seconds: NDArray[np.int32] | NDArray[np.int64]) -> pl.Series:
    times = (START + seconds.astype("timedelta64[s]")).astype("datetime64[ms]")
    return pl.Series(name, times).dt.strftime("%Y-%m-%d %H:%M:%S+02:00")


def _with_known(frame: pl.DataFrame, known: dict[int, Known]) -> pl.DataFrame:
    found = [known[row] for row in sorted(known)]
    columns: dict[str, list[str | None]] = {
        "official_suburb": [one.suburb for one in found],
        "latitude": [one.latitude for one in found],
        "longitude": [one.longitude for one in found],
        "h3_level8_index": [one.index for one in found],
    }
    new = [pl.Series(name, values, dtype=pl.String) for name, values in columns.items()]
    return frame.with_columns(frame[series.name].scatter(sorted(known), series) for series in new)
