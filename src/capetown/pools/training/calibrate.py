"""The card of a model that was just trained: its threshold, temperature and training data."""

from hashlib import sha256
from importlib.metadata import version

from torch import nn

from capetown.city import CLASSES
from capetown.params import Backbone, BandRendering, Train
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.metrics import calibrated, choose_threshold, fit_temperature
from capetown.pools.model.architecture import input_config
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import ModelManifest


def package_versions() -> dict[str, str]:
    """Versions of what a model's results depend on, without the build's label (``+cpu``)."""
    return {name: version(name).split("+")[0] for name in ("capetown", "timm", "torch")}


def calibrate(
    model: nn.Module,
    train: LabelledTiles,
    valid: LabelledTiles,
    backbone: Backbone,
    settings: Train,
    tiles: BandRendering,
    usual: TypicalProfile,
) -> ModelManifest:
    """Fit a trained model's temperature and threshold on `valid`, and describe the model.

    Args:
        model: as `fit` leaves it.
        train: what it learned from.
        valid: what its epoch was chosen on.
        backbone: what it was built on.
        settings: what the threshold, of the calibrated probability, maximises, and `tta`.
        tiles: how the tiles of both were read.
        usual: what most tiles of `train` look like.
    """
    inputs = input_config(model)
    logits = predict_logits(
        model, valid.pixels, mean=inputs["mean"], std=inputs["std"], tta=settings.tta
    )
    temperature = fit_temperature(valid.labels, logits)
    threshold = choose_threshold(
        valid.labels, calibrated(logits, temperature), settings.threshold_maximises, errors=1
    )
    return ModelManifest(
        architecture=backbone.architecture,
        image_size=valid.pixels.shape[1],
        **inputs,
        tta=settings.tta,
        tiles=tiles,
        usual=usual,
        classes=list(CLASSES),
        threshold=threshold,
        temperature=temperature,
        dataset=sha256(f"{train.digest} {valid.digest}".encode()).hexdigest()[:16],
        packages=package_versions(),
    )
