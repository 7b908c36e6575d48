"""Calibration of a trained model: its temperature and threshold, in its manifest."""

from hashlib import sha256

import numpy as np
from torch import nn

from capetown.city import CLASSES
from capetown.params import BandRendering
from capetown.pools.dataset.appearance import describe, fit_appearance
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.metrics import calibrated, choose_threshold, fit_temperature
from capetown.pools.model.architecture import input_config
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.training.checkpoints import package_versions
from capetown.pools.training.fit_one import TrainingConfig


def calibrate(
    model: nn.Module,
    train: LabelledTiles,
    valid: LabelledTiles,
    config: TrainingConfig,
    rendering: BandRendering,
    typical: TypicalProfile,
    reduced_to: int | None = None,
) -> ModelManifest:
    """Fit a trained model's temperature and threshold on `valid`, and describe the model.

    `rendering` is how the tiles were read. `typical` and `reduced_to` describe the training tiles;
    see `capetown.pools.dataset.dataset.fold_profile`.
    """
    settings, inputs = config.settings, input_config(model)
    logits = predict_logits(
        model, valid.pixels, mean=inputs["mean"], std=inputs["std"], tta=settings.tta
    )
    temperature = fit_temperature(valid.labels, logits, valid.groups, seed=config.seed)
    threshold = choose_threshold(
        valid.labels, calibrated(logits, temperature), settings.threshold_maximises, errors=1
    )
    return ModelManifest(
        architecture=config.backbone.architecture,
        image_size=config.image_size,
        **inputs,
        tta=settings.tta,
        tiles=rendering,
        typical=typical,
        appearance=fit_appearance(
            describe([*train.pixels, *valid.pixels]), np.concatenate([train.sheets, valid.sheets])
        ),
        reduced_to=reduced_to,
        classes=list(CLASSES),
        threshold=threshold,
        temperature=temperature,
        dataset=sha256(f"{train.digest} {valid.digest}".encode()).hexdigest()[:16],
        packages=package_versions(),
    )
