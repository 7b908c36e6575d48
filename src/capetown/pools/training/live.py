"""The epochs of a training as DVCLive shows them while it runs."""

from dvclive import Live

from capetown.pools.training.schedules import Epoch


def log_epoch(live: Live | None, row: Epoch) -> None:
    """Add an epoch to DVCLive's plots, if this is the process that writes."""
    if live is not None:
        live.step = row.epoch + 1  # as the report counts them
        for name, value in row.row().items():
            if name not in ("epoch", "phase"):
                live.log_metric(name, value)
        live.next_step()
