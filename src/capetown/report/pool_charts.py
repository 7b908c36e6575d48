"""Charts of the classifier's test. Those with a threshold share it, and the page moves it."""

import altair as alt
import pandas as pd
import polars as pl
from scipy.stats import binomtest

from capetown.report.charts import HEIGHT, ROW, Chart, dashes, row_texts, rows_chart, share
from capetown.report.facts import Facts, short_threshold

# Name of the threshold parameter in all charts.
THRESHOLD = "threshold"
# Map sheets per chart.
SHEETS = 12
Axis = tuple[str, str, str]
LABELS = {"yes": "with a pool", "no": "without"}
# Rates at the threshold, from the counts at it.
RATES = {
    "recall": "datum.hits / datum.positives",
    "precision": "datum.hits / datum.called",
    "false_alarms": "datum.alarms / datum.negatives",
}


def probabilities(facts: Facts) -> Chart:
    """Histogram of the probabilities by label, with the threshold."""
    colours = alt.Scale(domain=list(LABELS.values()), range=["var(--c0)", "var(--c1)"])
    bars = (
        alt.Chart(_tiles(facts).replace({"label": LABELS}))
        .mark_bar(opacity=0.9, stroke="var(--card)", strokeWidth=1)
        .encode(
            alt.X(
                "probability:Q",
                bin=alt.Bin(step=0.05, extent=[0, 1]),
                title="Probability that the model gives",
                axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
            ),
            alt.Y("count()", title="Tiles", stack=True, axis=alt.Axis(tickCount=5)),
            alt.Color("label:N", title=None, scale=colours, sort=list(LABELS.values())),
            tooltip=["label:N", "count()"],
        )
    )
    at = alt.Chart(alt.InlineData(values=[{}])).transform_calculate(at=THRESHOLD)
    line = at.mark_rule(strokeWidth=2, strokeDash=[6, 3]).encode(alt.X("at:Q"))
    return alt.layer(bars, line, height=HEIGHT).add_params(_threshold(facts))


def roc(facts: Facts) -> Chart:
    """ROC curve."""
    return _curve(
        facts,
        facts.curves["roc"],
        ("false_positive_rate", "false_alarms", "False alarms, of tiles without a pool"),
        ("true_positive_rate", "recall", "Found, of tiles with a pool"),
        [[0, 0], [1, 1]],
    )


def precision_recall(facts: Facts) -> Chart:
    """Precision-recall curve."""
    positives = facts.evaluate["positives"] / facts.evaluate["n"]
    return _curve(
        facts,
        facts.curves["precision_recall"],
        ("recall", "recall", "Found, of tiles with a pool"),
        ("precision", "precision", "Right, of tiles called"),
        [[0, positives], [1, positives]],
    )


def calibration(facts: Facts) -> Chart:
    """Calibration curve: the share of pools by probability."""
    table = facts.curves["calibration"]
    says, so = "Probability that the model gives", "Share that has a pool"
    axes = (share(alt.X, "mean_probability", says), share(alt.Y, "share_of_yes", so))
    points = (
        alt.Chart(table)
        .mark_point(opacity=0.9)
        .encode(
            *axes,
            size=alt.Size("tiles:Q", title="Tiles", legend=alt.Legend(symbolFillColor="var(--c0)",
                          tickCount=3)),
            tooltip=["mean_probability:Q", "share_of_yes:Q", "tiles:Q"],
        )
    )  # fmt: skip
    line = alt.Chart(table).mark_line().encode(*axes)
    return alt.layer(dashes([[0, 0], [1, 1]], says, so), line, points, height=HEIGHT)


def groups(facts: Facts) -> Chart:
    """Accuracy per map sheet with its 95 % Wilson interval, the largest sheets first."""
    ordered = pl.from_pandas(facts.sheets).sort("tiles", "sheet", descending=[True, False])
    rows = []
    for number, row in enumerate(ordered.head(SHEETS).to_dicts()):
        tiles = row["tiles"]
        right = tiles - row["false_positives"] - row["false_negatives"]
        low, high = binomtest(right, tiles).proportion_ci(method="wilson")
        rows.append((number, row["sheet"], f"{right} of {tiles}", right / tiles, low, high))
    columns = ["row", "sheet", "words", "right", "low", "high"]
    base = rows_chart(pl.DataFrame(rows, columns, orient="row"))
    lines = base.mark_rule(strokeWidth=4, color="var(--line)", yOffset=8).encode(
        share(alt.X, "low", "Judged rightly"), alt.X2("high:Q")
    )
    points = base.mark_point(size=90, opacity=1, yOffset=8).encode(
        share(alt.X, "right", "Judged rightly"),
        tooltip=["sheet:N", *(alt.Tooltip(f"{n}:Q", format=".0%") for n in columns[3:])],
    )
    texts = row_texts(base, "sheet")
    return alt.layer(lines, points, *texts, height=ROW * len(rows))


def _threshold(facts: Facts) -> alt.Parameter:
    return alt.param(THRESHOLD, value=short_threshold(facts))


def _tiles(facts: Facts) -> pd.DataFrame:
    return facts.predictions[["label", "probability"]]


def _curve(facts: Facts, table: pd.DataFrame, x: Axis, y: Axis, guess: list[list[float]]) -> Chart:
    """A curve in the unit square, its point at the threshold, and the line of guessing.

    Each axis has its column in the table, its name in `RATES`, and its title.
    """
    line = (
        alt.Chart(table.assign(order=range(len(table))))
        .mark_line(interpolate="step-after")
        .encode(
            share(alt.X, x[0], x[2]),
            share(alt.Y, y[0], y[2]),
            order="order:Q",
            tooltip=[alt.Tooltip(f"{n}:Q", title=t, format=".1%") for n, _, t in (x, y)],
        )
    )
    point = (
        alt.Chart(_tiles(facts))
        .transform_calculate(
            yes="datum.label == 'yes' ? 1 : 0", called=f"datum.probability >= {THRESHOLD} ? 1 : 0"
        )
        .transform_calculate(hit="datum.yes * datum.called")
        .transform_aggregate(
            hits="sum(hit)", called="sum(called)", positives="sum(yes)", tiles="count()"
        )
        .transform_calculate(
            alarms="datum.called - datum.hits", negatives="datum.tiles - datum.positives"
        )
        .transform_calculate(**RATES)
        .transform_filter(f"isFinite(datum.{x[1]}) && isFinite(datum.{y[1]})")
        .mark_point(size=150, color="var(--bad)", opacity=1, stroke="var(--card)", strokeWidth=2)
        .encode(
            share(alt.X, x[1], x[2]),
            share(alt.Y, y[1], y[2]),
            tooltip=[alt.Tooltip(f"{n}:Q", title=t, format=".1%") for _, n, t in (x, y)],
        )
    )
    layers = (dashes(guess, x[2], y[2]), line, point)
    return alt.layer(*layers, height=HEIGHT).add_params(_threshold(facts))


POOL_CHARTS = {
    "probabilities": probabilities,
    "roc": roc,
    "precision-recall": precision_recall,
    "calibration": calibration,
    "groups": groups,
}
