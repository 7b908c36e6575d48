"""The epochs of a training in DVCLive's plots."""

from dvclive import Live

from capetown.pools.training.schedules import Epoch


def log_epoch(live: Live | None, epoch: Epoch) -> None:
    """Add an epoch to DVCLive's plots. `live` is None in all processes but the first."""
    if live is not None:
        live.step = epoch.epoch + 1  # counted from 1, as in the report
        for name, value in epoch.row().items():
            if name not in ("epoch", "phase"):
                live.log_metric(name, value)
        live.next_step()
