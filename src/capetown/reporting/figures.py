"""The report's charts, each an Altair chart that needs nothing but its own data."""

from collections.abc import Callable
from typing import TypeVar

import altair as alt
import pandas as pd

from capetown.pools.scoring import METRICS
from capetown.reporting.facts import Facts
from capetown.reporting.hexagon_map import hexagon_map

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.VConcatChart

T = TypeVar("T", alt.X, alt.Y)

PHASES = {"head": "head alone", "full": "everything"}
HEIGHT = 260


def losses(facts: Facts) -> Chart:
    """Log loss on the tiles it learns from and on those it is chosen by."""
    names = {"train_loss": "training tiles", "valid_loss": "validation tiles"}
    return _by_epoch(facts, names, "Log loss")


def validation(facts: Facts) -> Chart:
    """The metrics on the validation fold by epoch, those at a threshold first."""
    ordered = sorted(METRICS.items(), key=lambda item: not item[1].at_threshold)
    names = {key: metric.name for key, metric in ordered}
    return _by_epoch(facts, names, "Metric")


def learning_rate(facts: Facts) -> Chart:
    """The rate at the end of each epoch."""
    return _by_epoch(facts, {"learning_rate": "learning rate"}, "Learning rate", height=120)


def roc(facts: Facts) -> Chart:
    """Tiles with a pool that are found, against false alarms, for every threshold."""
    return _curve(
        facts.curves["roc"],
        ("false_positive_rate", "False alarms, of tiles without a pool"),
        ("true_positive_rate", "Found, of tiles with a pool"),
        [[0, 0], [1, 1]],
    )


def precision_recall(facts: Facts) -> Chart:
    """Calls that are right, against pools that are found, for every threshold."""
    share = facts.evaluate["positives"] / facts.evaluate["n"]
    return _curve(
        facts.curves["precision_recall"],
        ("recall", "Found, of tiles with a pool"),
        ("precision", "Right, of tiles called"),
        [[0, share], [1, share]],
    )


def calibration(facts: Facts) -> Chart:
    """Calibration: the share of pools by the model's probability."""
    table = facts.curves["calibration"]
    says, so = "Probability that the model gives", "Share that has a pool"
    axes = (
        _share(alt.X, "mean_probability", says),
        _share(alt.Y, "share_of_yes", so),
    )
    points = (
        alt.Chart(table)
        .mark_point(filled=True, opacity=0.9)
        .encode(
            *axes,
            size=alt.Size("tiles:Q", title="Tiles", legend=alt.Legend(orient="bottom")),
            tooltip=["mean_probability:Q", "share_of_yes:Q", "tiles:Q"],
        )
    )
    line = alt.Chart(table).mark_line().encode(*axes)
    return alt.layer(_dashes([[0, 0], [1, 1]], says, so), line, points, height=HEIGHT)


def probabilities(facts: Facts) -> Chart:
    """Histogram of the model's probabilities, by label."""
    bars = (
        alt.Chart(_tiles(facts))
        .mark_bar(opacity=0.75)
        .encode(
            alt.X(
                "probability:Q",
                bin=alt.Bin(step=0.05),
                title="Probability that the model gives",
                axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
            ),
            alt.Y("count()", title="Tiles", stack=True),
            alt.Color("label:N", title="The label says", legend=alt.Legend(orient="bottom")),
            tooltip=["label:N", "count()"],
        )
    )
    rule = alt.Chart(pd.DataFrame({"threshold": [facts.evaluate["threshold"]]}))
    dashes = rule.mark_rule(strokeDash=[4, 4]).encode(x="threshold:Q")
    return alt.layer(bars, dashes, height=180)


def confusion(facts: Facts) -> Chart:
    """Right and wrong calls at a threshold, which a slider moves, and the metrics there."""
    start = _short_threshold(facts)
    slider = alt.binding_range(min=0, max=1, step=0.01, name="Threshold: ")
    threshold = alt.param("threshold", value=start, bind=slider)
    called = f"datum.probability >= {threshold.name}"
    cells = {
        "tp": ("pool", "pool"),
        "fn": ("pool", "no pool"),
        "fp": ("no pool", "pool"),
        "tn": ("no pool", "no pool"),
    }
    sums = (
        alt.Chart(_tiles(facts))
        .transform_calculate(
            tp=f"datum.label == 'yes' && {called} ? 1 : 0",
            fn=f"datum.label == 'yes' && !({called}) ? 1 : 0",
            fp=f"datum.label == 'no' && {called} ? 1 : 0",
            tn=f"datum.label == 'no' && !({called}) ? 1 : 0",
        )
        .transform_aggregate(tp="sum(tp)", fn="sum(fn)", fp="sum(fp)", tn="sum(tn)")
    )
    lookup = alt.LookupData(
        pd.DataFrame(
            [(key, *names) for key, names in cells.items()], columns=["key", "is", "says"]
        ),
        key="key",
        fields=["is", "says"],
    )
    matrix = sums.transform_fold(list(cells), as_=["key", "tiles"]).transform_lookup(
        "key", from_=lookup
    )
    axes = (
        alt.X(
            "says:N", title="The model says", sort=["pool", "no pool"], axis=alt.Axis(labelAngle=0)
        ),
        alt.Y("is:N", title="The label says", sort=["pool", "no pool"]),
    )
    right = "datum.is == datum.says"
    rectangles = matrix.mark_rect().encode(
        *axes,
        color=alt.condition(right, alt.value("#2a9d8f"), alt.value("#e76f51")),
        opacity=alt.Opacity("tiles:Q", scale=alt.Scale(range=[0.25, 0.9]), legend=None),
        tooltip=["is:N", "says:N", "tiles:Q"],
    )
    numbers = matrix.mark_text(fontSize=20).encode(*axes, text="tiles:Q")
    rates = {
        "found, of tiles with a pool (recall)": "datum.tp / (datum.tp + datum.fn)",
        "right, of tiles called (precision)": "datum.tp / (datum.tp + datum.fp)",
        "left alone, of tiles without": "datum.tn / (datum.tn + datum.fp)",
    }
    bars = (
        sums.transform_calculate(**rates)
        .transform_fold(list(rates), as_=["rate", "value"])
        .transform_filter("isFinite(datum.value)")
        .encode(
            _share(alt.X, "value", "Share"),
            alt.Y("rate:N", title=None, sort=list(rates), axis=alt.Axis(labels=False, ticks=False)),
        )
    )
    words = (
        bars.mark_text(align="left", dx=4)
        .encode(x=alt.value(0), text="text:N")
        .transform_calculate(text="datum.rate + ': ' + format(datum.value, '.1%')")
    )
    return alt.vconcat(
        (rectangles + numbers).properties(width=250, height=180).add_params(threshold),
        (bars.mark_bar(color="#2a9d8f", opacity=0.35) + words).properties(width=250, height=90),
    )


FIGURES: dict[str, Callable[[Facts], Chart]] = {
    "map": hexagon_map,
    "losses": losses,
    "validation": validation,
    "rates": learning_rate,
    "roc": roc,
    "precision-recall": precision_recall,
    "calibration": calibration,
    "probabilities": probabilities,
    "confusion": confusion,
}


def _share(channel: type[T], field: str, title: str) -> T:
    """An axis from 0 to 100 %."""
    axis = alt.Axis(format="%", tickCount=5)
    return channel(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def _short_threshold(facts: Facts) -> float:
    """The model's threshold with as few decimals, from two, as leave its calls what they are."""
    exact: float = facts.evaluate["threshold"]
    probabilities = facts.predictions["probability"]
    called = probabilities >= exact
    shorter = (round(exact, decimals) for decimals in range(2, 17))
    return next((short for short in shorter if called.equals(probabilities >= short)), exact)


def _tiles(facts: Facts) -> pd.DataFrame:
    return facts.predictions[["label", "probability"]]


def _by_epoch(facts: Facts, names: dict[str, str], title: str, height: int = HEIGHT) -> Chart:
    """Lines over the epochs, counted from 1, on a ground that tells the phases apart."""
    table = facts.history.assign(epoch=facts.history["epoch"] + 1)
    long = table.melt(["epoch"], list(names), "what", "value").replace({"what": names})
    spans = (table.groupby("phase", sort=False)["epoch"].agg(["min", "max"]).reset_index()).assign(
        phase=lambda rows: rows["phase"].map(PHASES)
    )
    spans = spans.assign(start=spans["min"] - 0.5, end=spans["max"] + 0.5)
    last = len(table)
    epochs = alt.Axis(values=list(range(1, last + 1)), format="d", grid=False)
    ground = (
        alt.Chart(spans)
        .mark_rect(opacity=0.25)
        .encode(
            alt.X("start:Q", title="Epoch", scale=alt.Scale(domain=[0.5, last + 0.5]), axis=epochs),
            alt.X2("end:Q"),
            alt.Fill(
                "phase:N",
                title="What trains",
                sort=list(PHASES.values()),
                scale=alt.Scale(domain=list(PHASES.values()), range=["#e9c46a", "#2a9d8f"]),
                # Beside the lines' legend it would be wider than a phone.
                legend=alt.Legend(orient="top"),
            ),
        )
    )
    legend = alt.Legend(orient="bottom", title=None, columns=3) if len(names) > 1 else None
    lines = (
        alt.Chart(long)
        .mark_line(point=True)
        .encode(
            alt.X("epoch:Q"),
            alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            alt.Color("what:N", legend=legend, sort=list(names.values())),
            tooltip=["what:N", "epoch:Q", alt.Tooltip("value:Q", format=".4")],
        )
    )
    return alt.layer(ground, lines, height=height)


def _curve(
    table: pd.DataFrame, x: tuple[str, str], y: tuple[str, str], guess: list[list[float]]
) -> Chart:
    """A curve in the unit square; x and y are each a column and its title."""
    line = (
        alt.Chart(table.assign(order=range(len(table))))
        .mark_line(interpolate="step-after")
        .encode(
            _share(alt.X, *x),
            _share(alt.Y, *y),
            order="order:Q",
            tooltip=[f"{x[0]}:Q", f"{y[0]}:Q"],
        )
    )
    return alt.layer(_dashes(guess, x[1], y[1]), line, height=HEIGHT)


def _dashes(points: list[list[float]], x: str, y: str) -> alt.Chart:
    """Dashed line of guessing, or of perfect calibration."""
    table = pd.DataFrame(points, columns=["x", "y"])
    chart: alt.Chart = alt.Chart(table).mark_line(strokeDash=[4, 4], color="#888")
    return chart.encode(_share(alt.X, "x", x), _share(alt.Y, "y", y))
