"""Find doubtful labels from out-of-fold predictions.

The tiles are divided into parts that share no map sheet, or no group where sheets are too few. Each
part is predicted by a model trained on the others, except one that its epoch and temperature are
chosen on. Sorted by the probability of the given label, wrong labels come first (Northcutt, Jiang
and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"). The same
predictions are a cross-validation of the recipe.
"""

import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.params import Params
from capetown.pools.dataset.dataset import LabelledTiles, load_fold
from capetown.pools.metrics import (
    METRICS,
    Floats,
    Labels,
    bootstrap_intervals,
    calibrated,
    fit_temperature,
    score,
)
from capetown.pools.model.architecture import input_config
from capetown.pools.model.inference import predict_logits
from capetown.pools.training.checkpoints import forget_checkpoint
from capetown.pools.training.fit_one import TrainingConfig, fit_one

log = logging.getLogger("capetown")


def divide(
    labels: Labels, groups: npt.NDArray[np.str_], parts: int, seed: int
) -> npt.NDArray[np.int64]:
    """Each tile's part, from 0: parts share no group and have similar class shares.

    Raises:
        CapetownError: a part would lack a class.
    """
    found = np.zeros(len(labels), np.int64)
    try:
        folds = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        for number, (_, rows) in enumerate(folds.split(labels, labels, groups)):
            found[rows] = number
    except ValueError:  # fewer tiles or groups than parts
        found[:] = 0
    if any(len(np.unique(labels[found == part])) < len(CLASSES) for part in range(parts)):
        raise CapetownError(
            f"the tiles cannot be divided into {parts} parts with both classes",
            fix="lower --parts, or add tiles",
        )
    return found


class OutOfFold(NamedTuple):
    """All tiles with predictions by models that did not see them.

    Attributes:
        probabilities: of ``yes``, shape (tiles,).
        units: what the parts keep together, the map sheet or group of each tile, shape (tiles,).
        by_sheet: whether these are sheets.
    """

    tiles: LabelledTiles
    probabilities: Floats
    units: npt.NDArray[np.str_]
    by_sheet: bool


def out_of_fold(
    params: Params, *, table: Path, root: Path, cache: Path, checkpoints: Path, parts: int
) -> OutOfFold:
    """Predict each tile by a model that did not see its map sheet, or its group.

    Resumes from checkpoints, which are kept until all parts are done.

    Args:
        params: the model and its training.
        table: the tiles, written by `split`.
        root: folder that paths are relative to.
        cache: folder of decoded tiles.
        checkpoints: folder of all checkpoints.
        parts: models to train, three or more.

    Raises:
        CapetownError: loading, building or training fails.
    """
    config = TrainingConfig(
        backbone=params.backbone, settings=params.train, pretrained=params.pretrained,
        seed=params.seed, threads=params.threads, device=params.device,
    )  # fmt: skip
    tiles = load_fold(
        table, None, root, size=config.image_size, interpolation=config.interpolation,
        cache=cache, rendering=params.tiles,
    )  # fmt: skip
    by_sheet = tiles.groups_source == "names"
    units = tiles.sheets if by_sheet else tiles.groups
    try:
        part = divide(tiles.labels, units, parts, params.seed)
    except CapetownError:
        if not by_sheet:
            raise
        by_sheet, units = False, tiles.groups
        part = divide(tiles.labels, units, parts, params.seed)
    found = np.zeros(len(part))
    folders = []
    for number in range(parts):
        log.info("part %d of %d", number + 1, parts)
        held, choosing = part == number, part == (number + 1) % parts
        train, valid = tiles.subset(~(held | choosing)), tiles.subset(choosing)
        model, _, checkpoint = fit_one(config, train, valid, checkpoints=checkpoints)
        folders.append(checkpoint)
        inputs = input_config(model)
        predict = partial(
            predict_logits, model, mean=inputs["mean"], std=inputs["std"], tta=params.train.tta
        )
        logits = predict(valid.pixels)
        temperature = fit_temperature(valid.labels, logits, valid.groups, seed=params.seed)
        found[held] = calibrated(predict(tiles.pixels[held]), temperature)
    for folder in filter(None, folders):
        forget_checkpoint(folder)
    return OutOfFold(tiles, found, units, by_sheet)


def cross_validation(found: OutOfFold, *, resamples: int, seed: int) -> str:
    """What the predictions say about the recipe, in a line."""
    labels, probabilities = found.tiles.labels, found.probabilities
    values = score(labels, probabilities, 0.5)
    intervals = bootstrap_intervals(
        labels, probabilities, 0.5, found.units, resamples=resamples, seed=seed
    )
    shown = [
        f"{METRICS[name].name} {values[name]:.3f} (95 % interval {low:.3f} to {high:.3f})"
        for name in ("roc_auc", "balanced_accuracy")
        for low, high in [intervals[name]]
    ]
    units = "map sheets" if found.by_sheet else "groups"
    return f"tiles of {len(np.unique(found.units))} {units}, each unseen: {', '.join(shown)}"


def doubtful_labels(tiles: LabelledTiles, probabilities: Floats) -> pd.DataFrame:
    """The tiles, the least credible label first.

    Returns:
        path, label, probability, and whether the label is suspect: P(other class) reaches that
        class's mean self-confidence (confident learning).
    """
    of_class = np.stack([1 - probabilities, probabilities])
    confidence = [of_class[label][tiles.labels == label].mean() for label in range(len(CLASSES))]
    rows, other = np.arange(len(tiles.labels)), 1 - tiles.labels
    suspect = of_class[other, rows] >= np.take(confidence, other)
    order = np.argsort(of_class[tiles.labels, rows], kind="stable")
    return pd.DataFrame(
        {
            "path": tiles.paths,
            "label": np.take(CLASSES, tiles.labels),
            "probability": probabilities.round(6),
            "suspect": suspect,
        }
    ).iloc[order]
