"""Fine-tuning in two phases: the head on a frozen backbone, then everything.

The second phase has its own optimizer over all parameters: one made while the backbone is frozen
would never train it. Order, augmentation and dropout of an epoch depend on (seed, epoch) alone, so
a training that goes on from a checkpoint ends as one that was never interrupted.
"""

import logging
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from capetown.errors import CapetownError
from capetown.params import Backbone, Train
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.metrics import calibrated, log_loss, score
from capetown.pools.model import architecture
from capetown.pools.model.devices import compiled, half_precision, memory_errors
from capetown.pools.model.inference import batch_to_device, normalise, predict_logits
from capetown.pools.model.timm_import import timm
from capetown.pools.training import parallel
from capetown.pools.training.augment import augment, draws
from capetown.pools.training.checkpoints import load_checkpoint, save_checkpoint
from capetown.pools.training.schedules import (
    Epoch,
    Phase,
    batches,
    best_epoch,
    has_stalled,
    learning_rate,
    phases,
)

log = logging.getLogger("capetown")
# Steps between looks at the loss: each look waits for the device.
LOOK_EVERY = 20


class Training:
    """A model with what moves it during one phase: optimizer, scaler and average of weights."""

    def __init__(
        self,
        model: nn.Module,
        phase: Phase,
        train: LabelledTiles,
        backbone: Backbone,
        settings: Train,
    ) -> None:
        self.model, self.phase, self.train, self.settings = model, phase, train, settings
        self.batch_size = backbone.batch_size
        self.device = next(model.parameters()).device
        self.inputs = architecture.input_config(model)
        if phase.name == "full":
            parallel.share_batch_norms(model, self.device)
        self.set_mode()
        groups = architecture.parameter_groups(model, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0)
        self.half = half_precision(self.device) if settings.amp else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)
        self.average, self.bounds = None, []
        if phase.name == "full" and settings.ema_decay > 0:
            self.average = timm.utils.ModelEmaV3(model, decay=settings.ema_decay, use_warmup=True)
            # Some layers have infinite bounds, which less themselves are no numbers.
            both = zip(self.average.module.buffers(), model.buffers(), strict=True)
            self.bounds = [(mean, now) for mean, now in both if torch.isinf(now).any()]
        together = parallel.synchronised(model)
        self.forward = compiled(together) if settings.compile else together

    @property
    def judged(self) -> nn.Module:
        """The model to validate and keep: the average, where there is one."""
        return self.average.module if self.average else self.model

    def set_mode(self) -> None:
        """Put every layer in the mode that it trains in."""
        if self.phase.name == "head":
            architecture.freeze_backbone(self.model)
        else:
            architecture.unfreeze(self.model)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, beside its number."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state of the same phase."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def run_epoch(self, epoch: int, seed: int) -> tuple[float, float]:
        """Train on every tile once.

        Returns:
            The mean loss, and the last learning rate.

        Raises:
            CapetownError: if the loss is no longer a number.
        """
        torch.manual_seed((seed * 1_000_003 + epoch) * parallel.size() + parallel.rank())
        self.set_mode()
        tiles = len(self.train.labels)
        drawn = draws(seed, epoch, tiles)
        todo = batches(tiles, self.batch_size, seed, epoch)
        total, rate = torch.zeros((), device=self.device), 0.0
        for number, rows in enumerate(_progress(todo, f"epoch {epoch + 1}, {self.phase.name}")):
            step = (epoch - self.phase.first) * len(todo) + number
            steps = (self.phase.end - self.phase.first) * len(todo)
            rate = learning_rate(step, steps, self.phase.learning_rate, self.settings.warmup)
            mine = parallel.share(rows)
            total += self.learn(*self.images(mine, drawn[mine]), rate, of=len(rows))
            if self.average:
                self.average.update(self.model, step=step + 1)
                for mean, now in self.bounds:
                    mean.copy_(now)
            if number % LOOK_EVERY == 0 or number == len(todo) - 1:
                _check_loss(float(parallel.total(total)), epoch)
        return float(parallel.total(total)) / tiles, rate

    def images(
        self, rows: npt.NDArray[np.int64], drawn: npt.NDArray[np.float32]
    ) -> tuple[Tensor, Tensor]:
        """Tiles ready for the model, augmented as drawn, and their labels."""
        pixels = batch_to_device(self.train.pixels[rows], self.device)
        moves = torch.from_numpy(drawn).to(self.device)
        changed = augment(pixels, moves, self.settings.augment)
        labels = torch.from_numpy(self.train.labels[rows]).to(self.device)
        return normalise(changed, self.inputs["mean"], self.inputs["std"]), labels

    def answer(self, images: Tensor) -> Tensor:
        """The logits of images; a `CapetownError` if there are too few for batch normalisation."""
        try:
            return self.forward(images)[:, 0]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise CapetownError(
                f"batch_size: batch normalisation needs more than {len(images)} tile a step: raise "
                "the backbone's batch_size, or choose one without, such as convnext_tiny."
            ) from error

    def learn(self, images: Tensor, labels: Tensor, rate: float, of: int) -> Tensor:
        """Take a step.

        Args:
            images: this process's share of a batch.
            labels: theirs.
            rate: the learning rate.
            of: tiles in the whole batch.

        Returns:
            The sum of the losses of this process's tiles.
        """
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            logits = self.answer(images)
        loss = functional.binary_cross_entropy_with_logits(
            logits.float(), labels.float(), reduction="sum"
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        # Gradients are averaged over the processes: each loss counts as a share of the batch.
        self.scaler.scale(loss * parallel.size() / of).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def fit(
    model: nn.Module,
    train: LabelledTiles,
    valid: LabelledTiles,
    *,
    backbone: Backbone,
    settings: Train,
    seed: int,
    checkpoints: Path,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train a model, and leave in it the weights of its best epoch; see `best_epoch`.

    Goes on from the checkpoint in a folder if there is one, and then reports its epochs first.

    Args:
        model: on the device to train on; changed in place.
        train: the tiles to learn from.
        valid: the tiles to choose the epoch on.
        backbone: batch size and learning rate.
        settings: the rest.
        seed: another seed gives another order, augmentation and dropout.
        checkpoints: a folder of this training's own; see
            `capetown.pools.training.checkpoints.fingerprint`.
        on_epoch: called after each epoch.

    Returns:
        Every epoch.

    Raises:
        CapetownError: if the loss is no longer a number, or the device's memory is too small.
    """
    history: list[Epoch] = []
    best = deepcopy(model.state_dict())
    saved = parallel.from_first(load_checkpoint(checkpoints) if parallel.rank() == 0 else None)
    if saved:
        history = [Epoch(**row) for row in saved["history"]]
        best = saved["best"]
        model.load_state_dict(saved["training"]["model"])
        log.info("going on after epoch %d", len(history))
        for row in history:
            on_epoch(row)
    plan = phases(settings, backbone)
    with memory_errors(
        f"batches of {backbone.batch_size} tiles",
        f"lower the backbone's batch_size ({backbone.architecture}) or train.image_size",
    ):
        for phase in plan:
            if phase.end <= len(history):
                continue
            training = Training(model, phase, train, backbone, settings)
            if saved and phase.first < len(history):
                training.restore(saved["training"])
            while len(history) < phase.end:
                if phase == plan[-1] and has_stalled(history, phase, settings.patience):
                    break
                start = time.perf_counter()
                loss, rate = training.run_epoch(len(history), seed)
                speed = len(train.labels) / (time.perf_counter() - start)
                row = _judge(training, valid, len(history), loss, rate)
                history.append(row)
                if best_epoch(history) is row:
                    best = deepcopy(training.judged.state_dict())
                rows = [asdict(row) for row in history]
                state = {"history": rows, "best": best, "training": training.state()}
                if parallel.rank() == 0:
                    save_checkpoint(checkpoints, state)
                _log_epoch(row, speed)
                on_epoch(row)
    model.load_state_dict(best)
    return history


def _judge(training: Training, valid: LabelledTiles, epoch: int, loss: float, rate: float) -> Epoch:
    inputs = training.inputs
    mine = parallel.share(valid.pixels)
    logits = parallel.gather(
        predict_logits(training.judged, mine, mean=inputs["mean"], std=inputs["std"])
    )
    valid_loss = log_loss(valid.labels, logits)
    _check_loss(valid_loss, epoch)
    scores = score(valid.labels, calibrated(logits, 1.0), 0.5)
    return Epoch(
        epoch=epoch,
        phase=training.phase.name,
        train_loss=round(loss, 6),
        valid_loss=round(valid_loss, 6),
        scores={name: round(value, 6) for name, value in scores.items()},
        learning_rate=round(rate, 6),
    )


def _check_loss(loss: float, epoch: int) -> None:
    if not np.isfinite(loss):
        raise CapetownError(
            f"the loss is {loss} in epoch {epoch + 1}: lower the backbone's learning_rate or "
            "train.head_learning_rate, or set train.amp=false; the checkpoint of the last good "
            "epoch is kept."
        )


def _progress(todo: list[npt.NDArray[np.int64]], title: str) -> Iterator[npt.NDArray[np.int64]]:
    """The batches, with a bar of images a second and time left if this is a terminal."""
    total = sum(map(len, todo))
    with tqdm(total=total, desc=title, unit=" images", disable=None, leave=False) as bar:
        for rows in todo:
            yield rows
            bar.update(len(rows))


def _log_epoch(row: Epoch, speed: float) -> None:
    log.info(
        "epoch %d (%s): train loss %.4f, valid loss %.4f, average precision %.4f, "
        "balanced accuracy %.4f, %.1f images/s",
        row.epoch + 1,
        row.phase,
        row.train_loss,
        row.valid_loss,
        row.scores["average_precision"],
        row.scores["balanced_accuracy"],
        speed,
    )
