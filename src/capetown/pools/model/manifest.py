"""A trained model as two files: weights in safetensors, and all else in a small JSON.

Loading runs no pickled code and needs no network; a folder with the two files is the model.
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
    ImageSize,
    Interpolation,
    Section,
    Share,
    describe_errors,
)
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.model.architecture import create
from capetown.pools.model.devices import to_device

WEIGHTS_FILE = "model.safetensors"
MANIFEST_FILE = "model.json"


class ModelManifest(Section):
    """Everything beside the weights that is needed to use a model.

    A tile is read by the rule `tiles`, resized to a square of `image_size` pixels by
    `interpolation`, scaled to 0..1, shifted by `mean` and divided by `std`; with `tta` its logit is
    the mean of those of its eight flips and quarter turns. The logit divided by `temperature`
    gives, through the logistic function, the probability of the second class; at `threshold` and
    above it is that class. Most tiles that it learned from look as `usual` says. `weights` is the
    SHA-256 of their file, which `save_model` fills in; empty to check nothing.
    """

    architecture: str
    image_size: ImageSize
    mean: BandMeans
    std: BandDeviations
    interpolation: Interpolation
    tta: bool = False
    tiles: BandRendering
    usual: TypicalProfile
    classes: list[str]
    threshold: Share
    temperature: Annotated[FiniteFloat, Field(gt=0)]
    dataset: str
    packages: dict[str, str]
    weights: str = ""

    @field_validator("classes")
    @classmethod
    def _are_known(cls, classes: list[str]) -> list[str]:
        if classes != list(CLASSES):
            raise ValueError(f"must be {list(CLASSES)}")
        return classes


def save_model(folder: Path, model: nn.Module, card: ModelManifest) -> None:
    """Write both files into a folder, made where it is missing; the JSON last."""
    folder.mkdir(parents=True, exist_ok=True)
    # Copies: two names may share a tensor, which safetensors would refuse.
    tensors = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    data = save(tensors)
    (folder / WEIGHTS_FILE).write_bytes(data)
    named = card.model_copy(update={"weights": sha256(data).hexdigest()})
    (folder / MANIFEST_FILE).write_text(named.model_dump_json(indent=2) + "\n")


def model_digest(folder: Path) -> str:
    """A digest of a model's two files.

    Raises:
        CapetownError: if one cannot be read.
    """
    digest = sha256()
    for name in (MANIFEST_FILE, WEIGHTS_FILE):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise _missing(folder) from error
    return digest.hexdigest()


def load_model(folder: Path, device: torch.device) -> tuple[nn.Module, ModelManifest]:
    """The model, in evaluation mode on a device, and its card.

    Raises:
        CapetownError: if a file is missing, damaged, or does not fit the other.
    """
    try:
        card = ModelManifest.model_validate(json.loads((folder / MANIFEST_FILE).read_text()))
        with (folder / WEIGHTS_FILE).open("rb") as file:
            whole = card.weights in ("", file_digest(file, "sha256").hexdigest())
        tensors = load_file(folder / WEIGHTS_FILE)
    except OSError as error:
        raise _missing(folder) from error
    except ValidationError as error:
        raise CapetownError(
            f"{folder / MANIFEST_FILE}: {describe_errors(error)}; train or copy it again."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CapetownError(
            f"{folder / MANIFEST_FILE}: damaged: {one_line(error)}; train or copy it again."
        ) from error
    except SafetensorError as error:
        raise CapetownError(
            f"{folder / WEIGHTS_FILE}: damaged: {error}; train or copy it again."
        ) from error
    if not whole:
        raise CapetownError(
            f"{folder / WEIGHTS_FILE}: damaged: not the file that {MANIFEST_FILE} names; train or "
            "copy it again."
        )
    model = create(card.architecture, card.image_size)
    # Some layers come with infinite bounds.
    bounds = {name for name, buffer in model.named_buffers() if buffer.isinf().any()}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CapetownError(
            f"{folder / WEIGHTS_FILE}: not the weights of {card.architecture}, which "
            f"{MANIFEST_FILE} names."
        ) from error
    if not all(tensors[name].isfinite().all() for name in tensors.keys() - bounds):
        raise CapetownError(f"{folder / WEIGHTS_FILE}: not all weights are numbers; train again.")
    return to_device(model, device).eval(), card


def _missing(folder: Path) -> CapetownError:
    return CapetownError(
        f"{folder}: no model in it ({MANIFEST_FILE} and {WEIGHTS_FILE}); `dvc repro train` makes "
        "one."
    )
