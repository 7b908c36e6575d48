"""Fine-tuning in two phases: the head on a frozen backbone, then all layers.

The second phase makes its own optimizer over all parameters: one made while the backbone is frozen
would never train it. Order, augmentation and dropout of an epoch depend on (seed, epoch) only, so a
resumed training gives the same result as an uninterrupted one.
"""

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
from capetown.pools.model import architecture
from capetown.pools.model.devices import half_precision
from capetown.pools.model.inference import batch_to_device, normalise
from capetown.pools.model.timm_import import timm
from capetown.pools.training import parallel
from capetown.pools.training.augment import augment, draws
from capetown.pools.training.schedules import Phase, batches, learning_rate

# Steps between checks of the loss. Each check waits for the device.
CHECK_EVERY = 20


class Training:
    """A model with its optimizer, gradient scaler and average of weights during one phase."""

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
            parallel.synchronise_batch_norms(model, self.device)
        self.set_mode()
        groups = architecture.parameter_groups(model, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0)
        self.half = half_precision(self.device) if settings.amp else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)
        self.average, self.bounds = None, []
        if phase.name == "full" and settings.ema_decay > 0:
            self.average = timm.utils.ModelEmaV3(model, decay=settings.ema_decay, use_warmup=True)
            # inf - inf is NaN: infinite buffers are copied instead of averaged.
            both = zip(self.average.module.buffers(), model.buffers(), strict=True)
            self.bounds = [(mean, now) for mean, now in both if torch.isinf(now).any()]
        self.forward = parallel.data_parallel(model)

    @property
    def candidate(self) -> nn.Module:
        """The model to validate and keep: the average if there is one."""
        return self.average.module if self.average else self.model

    def set_mode(self) -> None:
        """Freeze or unfreeze the layers for this phase."""
        if self.phase.name == "head":
            architecture.freeze_backbone(self.model)
        else:
            architecture.unfreeze(self.model)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, except its number."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state of the same phase."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def run_epoch(self, epoch: int, seed: int) -> tuple[float, float]:
        """Train on every tile once. Returns the mean loss and the last learning rate.

        Raises:
            CapetownError: the loss is not finite.
        """
        torch.manual_seed((seed * 1_000_003 + epoch) * parallel.world_size() + parallel.rank())
        self.set_mode()
        tiles = len(self.train.labels)
        drawn = draws(seed, epoch, tiles)
        todo = batches(tiles, self.batch_size, seed, epoch)
        total, rate = torch.zeros((), device=self.device), 0.0
        title = f"epoch {epoch + 1}, {self.phase.name}"
        # disable=None: only a terminal shows progress.
        shown = tqdm(todo, desc=title, unit=" batches", disable=None, leave=False)
        for number, rows in enumerate(shown):
            step = (epoch - self.phase.first) * len(todo) + number
            steps = (self.phase.end - self.phase.first) * len(todo)
            rate = learning_rate(step, steps, self.phase.learning_rate, self.settings.warmup)
            mine = parallel.share(rows)
            total += self.train_step(*self.inputs_of(mine, drawn[mine]), rate, of=len(rows))
            if self.average:
                self.average.update(self.model, step=step + 1)
                for mean, now in self.bounds:
                    mean.copy_(now)
            if number % CHECK_EVERY == 0 or number == len(todo) - 1:
                check_loss(float(parallel.total(total)), epoch)
        return float(parallel.total(total)) / tiles, rate

    def inputs_of(
        self, rows: npt.NDArray[np.int64], drawn: npt.NDArray[np.float32]
    ) -> tuple[Tensor, Tensor]:
        """Augmented, normalised tiles and their labels, on the device."""
        pixels = batch_to_device(self.train.pixels[rows], self.device)
        moves = torch.from_numpy(drawn).to(self.device)
        changed = augment(pixels, moves, self.settings.augment)
        labels = torch.from_numpy(self.train.labels[rows]).to(self.device)
        return normalise(changed, self.inputs["mean"], self.inputs["std"]), labels

    def logits_of(self, images: Tensor) -> Tensor:
        """The logits of images. Too few for batch normalisation are a `CapetownError`."""
        try:
            logits: Tensor = self.forward(images)[:, 0]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise CapetownError(
                f"batch normalisation needs more than {len(images)} tile a step",
                where="batch_size",
                fix="raise the backbone's batch_size, or choose convnext_tiny, which has none",
            ) from error
        return logits

    def train_step(self, images: Tensor, labels: Tensor, rate: float, of: int) -> Tensor:
        """Take one step on this process's share of a batch of `of` tiles, and sum its losses."""
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            logits = self.logits_of(images)
        loss = functional.binary_cross_entropy_with_logits(
            logits.float(), labels.float(), reduction="sum"
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        # Processes average their gradients, so each loss is scaled to its share of the batch.
        self.scaler.scale(loss * parallel.world_size() / of).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def check_loss(loss: float, epoch: int) -> None:
    """Raise a `CapetownError` if a loss is not finite."""
    if not np.isfinite(loss):
        raise CapetownError(
            f"the loss is {loss}",
            where=f"epoch {epoch + 1}",
            fix="lower the backbone's learning_rate or train.head_learning_rate, or set "
            "train.amp=false; the checkpoint of the epoch before is kept",
        )
