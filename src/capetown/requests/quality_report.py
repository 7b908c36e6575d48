"""Metrics of a join, lines for the log, and the thresholds that it exceeds."""

from typing import Any

import polars as pl

from capetown.city import COORDINATES, REQUEST_COLUMNS, REQUEST_ID, RESOLUTION, TIME_ZONE
from capetown.params import Transform
from capetown.requests.hexagons import Hexagons
from capetown.requests.join import Join
from capetown.requests.reader import (
    FAILED,
    METRES,
    MISSING,
    NAMES,
    PARSED,
    REASON,
    STATUS,
    STATUSES,
    TIMED,
    UNREADABLE,
)
from capetown.requests.reference import ReferenceComparison

# Examples per deviation in the log.
EXAMPLES = 5
REQUIRED = tuple(column.name for column in REQUEST_COLUMNS if not column.nullable)

Metrics = dict[str, Any]


def summarise(
    join: Join, comparison: ReferenceComparison | None, hexagons: Hexagons, counts: pl.DataFrame
) -> Metrics:
    """Metrics to compare between two runs.

    Returns:
        `requests`, a total per status, `failure_rate` (of requests with coordinates, also invalid
        ones), `missing_rate` (of all requests), `unreadable_rate` (of the worst column with times
        or numbers; an empty required value counts), `reference` (None without one), and `quality`:
        deviations from the declared schema.
    """
    total = len(join.rows)
    found = dict(join.rows["status"].value_counts().iter_rows())
    statuses = {status: found.get(status, 0) for status in STATUSES}
    failed, missing = sum(statuses[status] for status in FAILED), statuses[MISSING]
    rejected = join.rejects.filter(pl.col(STATUS).is_in(FAILED))
    reasons = rejected[REASON].fill_null("unknown").value_counts().sort(REASON)
    return {
        "requests": total,
        **statuses,
        "failure_rate": _rate(failed, total - missing),
        "missing_rate": _rate(missing, total),
        "unreadable_rate": max(_unreadable_rate(join, name) for name in PARSED),
        "reference": _reference(comparison),
        "quality": {
            "reasons": dict(reasons.iter_rows()),
            "one_coordinate_of_two": int(join.rows["half"].sum()),
            "completed_before_creation": len(_skewed(join.rows)),
            "created_apart": int(join.rows["apart"].sum()),
            "unparsed": {name: int(join.rows[f"unparsed: {name}"].sum()) for name in PARSED},
            "unreadable_rates": {name: _unreadable_rate(join, name) for name in PARSED},
            "without_zone": {name: int(join.rows[f"unzoned: {name}"].sum()) for name in TIMED},
            **_repeated(join.rows),
            "empty": {name: join.empty[name] for name in NAMES},
            "hexagons": len(hexagons.index),
            "hexagons_with_requests": counts.filter(pl.col("requests") > 0).height,
        },
    }


def log_lines(metrics: Metrics, join: Join, comparison: ReferenceComparison | None) -> list[str]:
    """The summary for people, with examples of deviations."""
    quality = metrics["quality"]
    total = metrics["requests"]
    found = [
        f"hexagons: {quality['hexagons']:,} cells of resolution {RESOLUTION}; "
        f"{quality['hexagons_with_requests']:,} have requests",
        *join.notes,
        f"requests: {total:,}",
        *(f"  {name:<24}{metrics[name]:>12,}{metrics[name] / total:>11.4%}" for name in STATUSES),
        *(f"  failed, likely {name}: {n:,}" for name, n in quality["reasons"].items()),
        *_rejected(join.rejects),
    ]
    if comparison:
        found += [
            "reference: {compared:,} compared, {matched:,} matched, {mismatched:,} mismatched; "
            "{only_in_requests:,} only in the requests, {only_in_reference:,} only in the "
            "reference".format(**metrics["reference"]),
            *_mismatched(comparison.mismatches),
        ]
    else:
        found.append("reference: none")
    return found + _deviations(metrics, join)


def exceeded_thresholds(metrics: Metrics, settings: Transform) -> dict[str, str]:
    """Exceeded thresholds by name, each with a description; empty if the join can be trusted."""
    rate = (metrics["reference"] or {"mismatch_rate": 0.0})["mismatch_rate"]
    rates = metrics["quality"]["unreadable_rates"]
    worst = max(rates, key=lambda name: float(rates[name]))
    hint = "; city.TIME_FORMATS may name its form" if worst in TIMED else ""
    asked = {
        "error_threshold": (
            metrics["failure_rate"],
            "of the requests with coordinates failed to join",
        ),
        "missing_threshold": (metrics["missing_rate"], "of the requests have no coordinates"),
        "unreadable_threshold": (metrics["unreadable_rate"], f"of {worst} cannot be read{hint}"),
        "reference_threshold": (rate, "of the requests disagree with the reference"),
    }
    limits = settings.model_dump(include=set(asked))
    return {
        name: f"{rate:.4%} {what} (transform.{name} is {limits[name]:.4%})"
        for name, (rate, what) in asked.items()
        if rate > limits[name]
    }


def verdict_details(metrics: Metrics) -> str:
    """The facts behind the verdict, for people."""
    reference = metrics["reference"]
    compared = "no reference to compare with"
    if reference:
        compared = "{matched:,} of {compared:,} match the reference".format(**reference)
    return (
        f"{metrics['requests']:,} rows read and written; IDs are complete and unique; "
        f"{metrics['failure_rate']:.4%} of the given coordinates failed; "
        f"{metrics['unreadable_rate']:.4%} of {' or '.join(PARSED)} unreadable; {compared}"
    )


def _unreadable_rate(join: Join, name: str) -> float:
    """The share of values in a column that are unreadable, or missing although required."""
    unread = int(join.rows[f"unparsed: {name}"].sum())
    empty, total = join.empty[name], len(join.rows)
    if name in REQUIRED:
        return _rate(unread + empty, total)
    return _rate(unread, total - empty)


def _rate(part: int, whole: int) -> float:
    return round(part / whole, 8) if whole else 0.0


def _repeated(rows: pl.DataFrame) -> Metrics:
    """The number of times in an hour that clocks repeat, by column; empty without any."""
    counts = {name: int(rows[f"repeated: {name}"].sum()) for name in TIMED}
    found = {name: count for name, count in counts.items() if count}
    return {"repeated_hour": found} if found else {}


def _reference(comparison: ReferenceComparison | None) -> Metrics | None:
    if comparison is None:
        return None
    mismatches = comparison.mismatches
    return {
        "compared": comparison.compared,
        "matched": comparison.matched,
        "mismatched": len(mismatches),
        "mismatch_rate": _rate(len(mismatches), comparison.compared),
        "only_in_requests": int((~mismatches["in_reference"]).sum()),
        "only_in_reference": int((~mismatches["in_requests"]).sum()),
    }


def _rejected(rejects: pl.DataFrame) -> list[str]:
    failed = rejects.filter(pl.col(STATUS).is_in(FAILED))
    shown = failed.head(EXAMPLES).select(REQUEST_ID, *COORDINATES, STATUS, REASON, METRES)
    return [
        f"  e.g. {number} at {latitude}, {longitude}: {status}"
        + (f", likely {reason}" if reason else "")
        + (f", {metres:,.1f} m from the nearest hexagon" if metres is not None else "")
        for number, latitude, longitude, status, reason, metres in shown.iter_rows()
    ]


def _mismatched(mismatches: pl.DataFrame) -> list[str]:
    shown = mismatches.head(EXAMPLES).select(
        REQUEST_ID, "index", "expected", "in_requests", "in_reference"
    )
    return [
        f"  e.g. {number}: "
        + (f"we say {ours or 'nothing'}" if here else "not in the requests")
        + (f", the reference {theirs or 'nothing'}" if there else ", not in the reference")
        for number, ours, theirs, here, there in shown.iter_rows()
    ]


def _deviations(metrics: Metrics, join: Join) -> list[str]:
    """Deviations from the declared schema, each with its count and examples."""
    quality, rows = metrics["quality"], join.rows
    extra = [name or "(unnamed)" for name in join.empty if name not in NAMES]
    checks = [
        ("completed before its creation", _skewed(rows)),
        ("created a month or more apart from nearly all others", rows.filter("apart")),
        ("only one of two coordinates", rows.filter("half")),
    ]
    checks += [
        (f"{name} without a zone, taken as {TIME_ZONE}", rows.filter(f"unzoned: {name}"))
        for name in TIMED
        if quality["without_zone"][name]
    ]
    checks += [
        (f"{name} in an hour that clocks repeat, taken as the earlier one",
         rows.filter(f"repeated: {name}"))
        for name in quality.get("repeated_hour", ())
    ]  # fmt: skip
    return [
        f"quality: columns not in the schema, kept: {', '.join(extra) or 'none'}",
        *(f"  {name} is empty: {quality['empty'][name]:,}" for name in REQUIRED),
        *(f"  {what}: {len(found):,}{_numbers(found)}" for what, found in checks),
        *(
            f"  {name} unreadable: {quality['unparsed'][name]:,}{_texts(join.rejects, name)}"
            for name in PARSED
        ),
    ]


def _skewed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("taken") < pl.duration())


def _texts(rejects: pl.DataFrame, name: str) -> str:
    unread = rejects.filter(pl.col(UNREADABLE).str.split(", ").list.contains(name)).head(EXAMPLES)
    texts = [
        f"{text!r} of {number}" for number, text in unread.select(REQUEST_ID, name).iter_rows()
    ]
    return f", e.g. {', '.join(texts)}" if texts else ""


def _numbers(rows: pl.DataFrame) -> str:
    return f", e.g. {', '.join(rows[REQUEST_ID].head(EXAMPLES))}" if len(rows) else ""
