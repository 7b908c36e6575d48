"""Charts of the training by epoch, with a background colour per phase."""

import altair as alt

from capetown.pools.metrics import METRICS
from capetown.report.charts import HEIGHT, Chart
from capetown.report.facts import Facts

PHASES = {"head": "head alone", "full": "everything"}


def losses(facts: Facts) -> Chart:
    """Log loss on the training and validation tiles."""
    names = {"train_loss": "training tiles", "valid_loss": "validation tiles"}
    return _by_epoch(facts, names, "Log loss")


def validation(facts: Facts) -> Chart:
    """Metrics on the validation fold, those at a threshold first."""
    ordered = sorted(METRICS.items(), key=lambda item: not item[1].at_threshold)
    names = {key: metric.name for key, metric in ordered}
    return _by_epoch(facts, names, "Metric")


def learning_rate(facts: Facts) -> Chart:
    """Learning rate at the end of each epoch."""
    return _by_epoch(facts, {"learning_rate": "learning rate"}, "Learning rate", height=120)


def _by_epoch(facts: Facts, names: dict[str, str], title: str, height: int = HEIGHT) -> Chart:
    """Lines over the epochs, counted from 1."""
    table = facts.history.assign(epoch=facts.history["epoch"] + 1)
    long = table.melt(["epoch"], list(names), "what", "value").replace({"what": names})
    spans = table.groupby("phase", sort=False)["epoch"].agg(["min", "max"]).reset_index()
    spans = spans.replace({"phase": PHASES}).assign(
        start=spans["min"] - 0.5, end=spans["max"] + 0.5
    )
    last = len(table)
    epochs = alt.Axis(values=list(range(1, last + 1)), format="d", grid=False, labelOverlap=True)
    ground = (
        alt.Chart(spans)
        .mark_rect(opacity=0.18)
        .encode(
            alt.X("start:Q", title="Epoch", scale=alt.Scale(domain=[0.5, last + 0.5]), axis=epochs),
            alt.X2("end:Q"),
            alt.Fill(
                "phase:N",
                title="What trains",
                sort=list(PHASES.values()),
                scale=alt.Scale(domain=list(PHASES.values()), range=["var(--c1)", "var(--c3)"]),
                # Beside the lines' legend it would be wider than a phone.
                legend=alt.Legend(orient="top"),
            ),
        )
    )
    legend = alt.Legend(orient="bottom", title=None, columns=2) if len(names) > 1 else None
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


TRAINING_CHARTS = {"losses": losses, "validation": validation, "rates": learning_rate}
