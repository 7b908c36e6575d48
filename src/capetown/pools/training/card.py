"""The card of a model that was just trained: its threshold, temperature and training data."""

from hashlib import sha256
from importlib.metadata import version

from torch import nn

from capetown.city import CLASSES
from capetown.params import Backbone, Tiles, Train
from capetown.pools.model.backbones import input_config
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.modelfile import ModelCard
from capetown.pools.scoring import calibrated, choose_threshold, fit_temperature
from capetown.pools.tiles.folds import Fold
from capetown.pools.tiles.unlike import Usual


def package_versions() -> dict[str, str]:
    """Versions of what a model's results depend on, without the build's label (``+cpu``)."""
    return {name: version(name).split("+")[0] for name in ("capetown", "timm", "torch")}


def make_card(
    model: nn.Module,
    train: Fold,
    valid: Fold,
    backbone: Backbone,
    settings: Train,
    tiles: Tiles,
    usual: Usual,
) -> ModelCard:
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
    return ModelCard(
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
