"""The schedule of a training: phases, learning rates, batches and early stopping."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from capetown.params import Backbone, Train

if TYPE_CHECKING:
    from dvclive import Live

PhaseName = Literal["head", "full"]


@dataclass(frozen=True)
class Epoch:
    """Log losses, validation metrics at a threshold of one half, and last learning rate."""

    epoch: int
    phase: PhaseName
    train_loss: float
    valid_loss: float
    scores: dict[str, float]
    learning_rate: float

    def row(self) -> dict[str, Any]:
        """The epoch as a row of a table, one column per metric."""
        values = asdict(self)
        rate, scores = values.pop("learning_rate"), values.pop("scores")
        return {**values, **scores, "learning_rate": rate}

    def log_to(self, live: "Live") -> None:
        """Add the epoch to DVCLive's plots."""
        live.step = self.epoch + 1  # counted from 1, as in the report
        for name, value in self.row().items():
            if name not in ("epoch", "phase"):
                live.log_metric(name, value)
        live.next_step()

    def __str__(self) -> str:
        """The epoch as a line of the log."""
        return (
            f"epoch {self.epoch + 1} ({self.phase}): train loss {self.train_loss:.4f}, valid loss "
            f"{self.valid_loss:.4f}, average precision {self.scores['average_precision']:.4f}, "
            f"balanced accuracy {self.scores['balanced_accuracy']:.4f}"
        )


class Phase(NamedTuple):
    """Epochs from `first` up to but not including `end`, counted from 0 over all phases."""

    name: PhaseName
    first: int
    end: int
    learning_rate: float


def phases(settings: Train, backbone: Backbone) -> list[Phase]:
    """The phases of a training; the regime ``head`` trains the head for the epochs of both."""
    middle, end = settings.head_epochs, settings.head_epochs + settings.epochs
    if settings.regime == "head":
        return [Phase("head", 0, end, settings.head_learning_rate)]
    both = [
        Phase("head", 0, middle, settings.head_learning_rate),
        Phase("full", middle, end, backbone.learning_rate),
    ]
    return [phase for phase in both if phase.first < phase.end]


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warmup to the peak, then half a cosine down to 0.

    `step` counts from 0 to `steps` - 1. `warmup` is the share of the steps before the peak.
    """
    rise = math.ceil(warmup * steps)
    if step < rise:
        return peak * (step + 1) / (rise + 1)
    return peak * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


def batches(tiles: int, size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """The shuffled indices of all tiles in batches of at most `size`.

    Batches are as equal as possible: batch normalisation would suffer from a last one of one tile.
    """
    order = np.random.default_rng((seed, epoch, 1)).permutation(tiles)
    return np.array_split(order, math.ceil(tiles / size))


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch with the highest average precision on `valid`; the lowest loss breaks ties."""
    return max(history, key=lambda row: (row.scores["average_precision"], -row.valid_loss))


def has_stalled(history: Sequence[Epoch], phase: Phase, patience: int) -> bool:
    """Return True if the best epoch of a phase is not among its last `patience` epochs."""
    rows = history[phase.first :]
    return bool(rows) and rows[-1].epoch - best_epoch(rows).epoch >= patience
