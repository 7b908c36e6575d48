"""Phases, learning rates, batches and early stopping."""

from pathlib import Path

import numpy as np
import pytest

from capetown.pools.metrics import METRICS
from capetown.pools.training import fit_one, schedules
from capetown.pools.training.schedules import Epoch, Phase, batches, phases
from tests.pools.training.tiny import SMALL, settings, train


def test_the_phases_share_out_the_epochs() -> None:
    how = settings(head_epochs=2, epochs=3, head_learning_rate=0.1)
    head, full = Phase("head", 0, 2, 0.1), Phase("full", 2, 5, 0.003)
    assert phases(how, SMALL) == [head, full]
    only = how.model_copy(update={"regime": "head"})
    assert phases(only, SMALL) == [head._replace(end=5)]
    assert phases(settings(head_epochs=0, epochs=3), SMALL) == [full._replace(first=0, end=3)]


def test_the_rate_climbs_and_falls() -> None:
    rates = [schedules.learning_rate(step, 10, peak=1.0, warmup=0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[6] == pytest.approx(0.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.05
    assert schedules.learning_rate(0, 10, peak=1.0, warmup=0) == 1
    assert schedules.learning_rate(0, 1, peak=1.0, warmup=1.0) == 0.5


@pytest.mark.parametrize(("tiles", "sizes"), [(8, [4, 4]), (9, [3, 3, 3]), (1, [1])])
def test_batches_are_even_and_hold_every_tile_once(tiles: int, sizes: list[int]) -> None:
    found = batches(tiles, 4, seed=1, epoch=0)
    assert [len(rows) for rows in found] == sizes
    assert sorted(np.concatenate(found)) == list(range(tiles))
    [order], [again], [other] = (batches(50, 50, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert order.tolist() == again.tolist() != other.tolist()


def row(epoch: int, precision: float, loss: float = 0.5) -> Epoch:
    return Epoch(epoch, "full", 0.1, loss, {"average_precision": precision}, 0.001)


def test_the_best_epoch_has_the_best_precision_and_then_the_least_loss() -> None:
    history = [row(0, 0.8), row(1, 0.9, 0.4), row(2, 0.9, 0.3), row(3, 0.85, 0.1)]
    assert schedules.best_epoch(history).epoch == 2


def test_training_stalls_after_epochs_without_a_better_one() -> None:
    phase = Phase("full", 1, 9, 0.1)
    history = [row(0, 0.99), row(1, 0.8), row(2, 0.9), row(3, 0.9, 0.6), row(4, 0.7)]
    stalled = [schedules.has_stalled(history[:end], phase, patience=2) for end in range(1, 6)]
    assert stalled == [False] * 4 + [True]


def test_training_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = settings(epochs=9, patience=2)
    monkeypatch.setattr(fit_one, "score", lambda *_: dict.fromkeys(METRICS, 0.5))
    monkeypatch.setattr(fit_one, "log_loss", lambda *_: 1.0)
    history = train(tmp_path, how=how).history
    assert [row.phase for row in history] == ["head", "full", "full", "full"]
