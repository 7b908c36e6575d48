"""A trained model as two files: weights in safetensors, and a manifest in JSON.

Loading them runs no pickled code and needs no network.
"""

import json
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, FiniteFloat, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from capetown.city import CLASSES
from capetown.errors import CapetownError, one_line
from capetown.params import (
    BandDeviations,
    BandMeans,
    BandRendering,
    GroupsSource,
    ImageSize,
    Interpolation,
    Section,
    Share,
    describe_errors,
)
from capetown.pools.dataset.appearance import Appearance
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.dataset.name_check import Verdict
from capetown.pools.model.architecture import create
from capetown.pools.model.devices import to_device

WEIGHTS_FILE = "model.safetensors"
MANIFEST_FILE = "model.json"


class TrainingSummary(Section):
    """Facts about a training that the model card reports.

    `groups` and `pool_share` cover both folds; `shared_groups` is True if a group is in both.
    `scores` are the validation metrics of the kept epoch, at a threshold of one half.
    `groups_source` is ``none`` if the split was random, and None in models of earlier versions.
    `names` says whether the tiles' names fitted their pixels; `predict` does not locate tiles by
    names that did not.
    """

    pretrained: bool
    train_tiles: int
    valid_tiles: int
    groups: int
    shared_groups: bool
    pool_share: Share
    scores: dict[str, float]
    groups_source: GroupsSource | None = None
    names: Verdict = "unknown"


class ModelManifest(Section):
    """Everything that is needed to use a model, besides its weights.

    A tile is downsampled to `reduced_to` pixels like the training tiles (None: not at all),
    rendered as `tiles` says, resized to a square of `image_size` pixels by `interpolation`, scaled
    to 0..1, shifted by `mean` and divided by `std`. With `tta` its logit is the mean over its eight
    flips and quarter turns. The logistic function of the logit over `temperature` is the
    probability of the second class, which is the decision from `threshold` on. `typical` is
    the typical profile of the training tiles, `appearance` their colour and texture (None: too few
    tiles or groups), and `dataset` a digest of them. `weights` is the SHA-256 of their file, which
    `save_model` sets; empty checks nothing.
    """

    architecture: str
    image_size: ImageSize
    mean: BandMeans
    std: BandDeviations
    interpolation: Interpolation
    tta: bool = False
    tiles: BandRendering
    typical: TypicalProfile
    appearance: Appearance | None = None
    reduced_to: int | None = None
    classes: list[str]
    threshold: Share
    temperature: Annotated[FiniteFloat, Field(gt=0)]
    dataset: str
    packages: dict[str, str]
    training: TrainingSummary | None = None
    weights: str = ""

    @field_validator("classes")
    @classmethod
    def _are_known(cls, classes: list[str]) -> list[str]:
        if classes != list(CLASSES):
            raise ValueError(f"must be {list(CLASSES)}")
        return classes


def save_model(folder: Path, model: nn.Module, manifest: ModelManifest) -> None:
    """Write both files into a folder, the manifest last. Makes the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    # Copies: safetensors refuses a tensor that two names share.
    tensors = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    data = save(tensors)
    (folder / WEIGHTS_FILE).write_bytes(data)
    written = manifest.model_copy(update={"weights": sha256(data).hexdigest()})
    (folder / MANIFEST_FILE).write_text(written.model_dump_json(indent=2) + "\n")


def model_digest(folder: Path) -> str:
    """A digest of both files of a model.

    Raises:
        CapetownError: a file is missing.
    """
    try:
        both = [(folder / name).read_bytes() for name in (MANIFEST_FILE, WEIGHTS_FILE)]
    except OSError as error:
        raise _missing(folder) from error
    return sha256(b"".join(both)).hexdigest()


def load_model(folder: Path, device: torch.device) -> tuple[nn.Module, ModelManifest]:
    """The model in evaluation mode on a device, and its manifest.

    Raises:
        CapetownError: a file is missing or damaged, or the two files do not match.
    """
    manifest_file, weights_file = folder / MANIFEST_FILE, folder / WEIGHTS_FILE
    try:
        manifest = ModelManifest.model_validate(json.loads(manifest_file.read_text()))
        with weights_file.open("rb") as file:
            intact = manifest.weights in ("", file_digest(file, "sha256").hexdigest())
        tensors = load_file(weights_file)
    except OSError as error:
        raise _missing(folder) from error
    except ValidationError as error:
        raise _unusable(manifest_file, describe_errors(error)) from error
    except (ValueError, RecursionError) as error:
        raise _unusable(manifest_file, f"damaged ({one_line(error)})") from error
    except SafetensorError as error:
        raise _unusable(weights_file, f"damaged ({one_line(error)})") from error
    if not intact:
        raise _unusable(weights_file, f"damaged: its digest is not that in {MANIFEST_FILE}")
    model = create(manifest.architecture, manifest.image_size)
    # Some layers have infinite bounds as buffers.
    bounds = {name for name, buffer in model.named_buffers() if buffer.isinf().any()}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        what = f"not the weights of {manifest.architecture}, which {MANIFEST_FILE} names"
        raise _unusable(weights_file, what) from error
    if not all(tensors[name].isfinite().all() for name in tensors.keys() - bounds):
        raise _unusable(weights_file, "not all weights are finite")
    return to_device(model, device).eval(), manifest


def _unusable(file: Path, what: str) -> CapetownError:
    return CapetownError(what, where=file, fix="train the model or copy it again")


def _missing(folder: Path) -> CapetownError:
    return CapetownError(
        f"no model in it ({MANIFEST_FILE} and {WEIGHTS_FILE})",
        where=folder,
        fix="run `dvc repro train`, which needs tiles: see download.tiles in params.yaml",
    )
