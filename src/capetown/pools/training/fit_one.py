"""One training: builds a model, trains it in its phases, and keeps the best epoch."""

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import nn

from capetown.params import Backbone, DeviceName, Section, Train
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.metrics import calibrated, log_loss, score
from capetown.pools.model.architecture import build_model
from capetown.pools.model.devices import choose_device, make_repeatable, memory_errors, to_device
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.pretrained import pretrained_config
from capetown.pools.training import parallel
from capetown.pools.training.checkpoints import fingerprint, load_checkpoint, save_checkpoint
from capetown.pools.training.loop import Training, check_loss
from capetown.pools.training.schedules import Epoch, best_epoch, has_stalled, phases

log = logging.getLogger("capetown")


class TrainingConfig(Section):
    """The params of a training."""

    backbone: Backbone
    settings: Train
    pretrained: bool
    seed: int
    threads: int
    device: DeviceName

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.settings.image_size or self.backbone.image_size

    @property
    def interpolation(self) -> str:
        """How tiles are resized, as timm names it."""
        own = pretrained_config(self.backbone.architecture).interpolation
        return str(self.settings.interpolation or own)


class Fitted(NamedTuple):
    """A model with the weights of its best epoch, all epochs, and the checkpoint's folder."""

    model: nn.Module
    history: list[Epoch]
    checkpoint: Path | None


def fit_one(
    config: TrainingConfig,
    train: LabelledTiles,
    valid: LabelledTiles,
    *,
    checkpoints: Path | None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:
    """Build a model and train it. Resumes from its checkpoint if there is one.

    Args:
        config: the params.
        train: the training tiles, of the config's image size and interpolation.
        valid: the tiles to choose the epoch on.
        checkpoints: the folder of the checkpoints of all trainings; None keeps no checkpoint.
        on_epoch: called after each epoch, and at first for those of the checkpoint.

    Raises:
        CapetownError: the device is missing or its memory too small, the model cannot be built, or
            the loss is not finite.
    """
    backbone, settings = config.backbone, config.settings
    make_repeatable(config.threads)
    device = choose_device(config.device)
    model = build_model(
        backbone, image_size=config.image_size, pretrained=config.pretrained, seed=config.seed,
        inputs=settings.model_dump(include={"interpolation", "mean", "std"}),
    )  # fmt: skip
    model = to_device(model, device)
    history: list[Epoch] = []
    best = deepcopy(model.state_dict())
    checkpoint, saved = None, None
    if checkpoints:
        inputs = [train.digest, valid.digest, config.model_dump(), parallel.world_size()]
        checkpoint = checkpoints / fingerprint(inputs, device.type)
        saved = parallel.broadcast(load_checkpoint(checkpoint) if parallel.rank() == 0 else None)
    if saved:
        history = [Epoch(**row) for row in saved["history"]]
        best = saved["best"]
        model.load_state_dict(saved["training"]["model"])
        log.info("resuming after epoch %d", len(history))
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
                loss, rate = training.run_epoch(len(history), config.seed)
                speed = len(train.labels) / (time.perf_counter() - start)
                row = _validate(training, valid, len(history), loss, rate)
                history.append(row)
                if best_epoch(history) is row:
                    best = deepcopy(training.candidate.state_dict())
                state = {"best": best, "training": training.state()}
                if checkpoint and parallel.rank() == 0:
                    rows = [asdict(row) for row in history]
                    save_checkpoint(checkpoint, {"history": rows, **state})
                log.info("%s, %.1f images/s", row, speed)
                on_epoch(row)
    model.load_state_dict(best)
    return Fitted(model, history, checkpoint)


def _validate(
    training: Training, valid: LabelledTiles, epoch: int, loss: float, rate: float
) -> Epoch:
    mean, std = training.inputs["mean"], training.inputs["std"]
    mine = predict_logits(training.candidate, parallel.share(valid.pixels), mean=mean, std=std)
    logits = parallel.gather(mine)
    valid_loss = log_loss(valid.labels, logits)
    check_loss(valid_loss, epoch)
    scores = score(valid.labels, calibrated(logits, 1.0), 0.5)
    return Epoch(
        epoch=epoch,
        phase=training.phase.name,
        train_loss=round(loss, 6),
        valid_loss=round(valid_loss, 6),
        scores={name: round(value, 6) for name, value in scores.items()},
        learning_rate=round(rate, 6),
    )
