"""The params file as typed values.

An unknown key, a wrong type or a value out of range is one line that names the key.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from capetown.errors import CapetownError, one_line


class _Loader(yaml.SafeLoader):
    """YAML 1.1, except that `5e-05` is a number. DVC writes numbers like that."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), "-+0123456789"
)
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Share = Annotated[float, Field(ge=0, le=1)]
ImageSize = Annotated[int, Field(ge=32, le=2048)]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
# Where groups of neighbouring tiles come from; see `capetown.pools.dataset.groups`.
GroupsSource = Literal["table", "georeference", "names", "folders", "none"]
# One value per band, from 0 to 1.
BandMeans = Annotated[list[Share], Field(min_length=3, max_length=3)]
BandDeviations = Annotated[
    list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=3, max_length=3)
]


class Section(BaseModel):
    """A part of the params file. Unknown keys are errors and values are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Backbone(Section):
    """A model to fine-tune, by its name in timm."""

    architecture: str
    image_size: ImageSize
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]


class Download(Section):
    """The source of the data, and which objects to fetch."""

    folder: Annotated[str, Field(min_length=1)]
    bucket: str | None
    requests: list[str]
    tiles: list[str]
    max_tiles: Annotated[int, Field(ge=1)] | None
    tile_side: Annotated[int, Field(ge=32)] | None
    checksums: Literal["md5", "size"]
    credentials: Annotated[str, Field(min_length=1)]
    profile: str | None
    region: str | None
    endpoint_url: str | None
    connections: Annotated[int, Field(ge=1, le=256)]
    tries: Annotated[int, Field(ge=1)]
    timeout: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _folder_and_bucket_are_such(self) -> Self:
        if "://" in self.folder:
            raise ValueError(f"folder: {self.folder!r} is a URL; set download.bucket to it")
        if self.bucket and "://" not in self.bucket:
            raise ValueError(f"bucket: {self.bucket!r} is a folder; set download.folder to it")
        return self

    @property
    def source(self) -> str:
        """Where the data comes from: the bucket if there is one, else the folder."""
        return self.bucket or self.folder


class Transform(Section):
    """The join of requests to hexagons."""

    error_threshold: Share
    missing_threshold: Share
    unreadable_threshold: Share
    reference: str | None
    reference_threshold: Share
    csv: bool


class Split(Section):
    """The division of tiles into folds."""

    strategy: Literal["block", "sheet", "random"]
    groups: Annotated[str, Field(min_length=1)]
    block_metres: Annotated[int, Field(ge=1)]
    gap: Annotated[int, Field(ge=0)]
    corrections: Annotated[str, Field(min_length=1)]
    valid: Annotated[float, Field(gt=0, lt=0.5)]
    test: Annotated[float, Field(gt=0, lt=0.5)]


class BandRendering(Section):
    """How the bands of a tile become 8-bit RGB."""

    bands: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)] | None
    scale: (
        Literal["full", "percentile"]
        | Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]
    )

    @model_validator(mode="after")
    def _scale_rises(self) -> Self:
        if isinstance(self.scale, list) and self.scale[0] >= self.scale[1]:
            raise ValueError("scale: the first value must be below the second")
        return self


class Augment(Section):
    """Ranges of random changes to training tiles."""

    flips: bool
    brightness: Share
    contrast: Share
    saturation: Share
    scale: Annotated[float, Field(ge=0, le=0.5)]


class Train(Section):
    """Training of the classifier."""

    regime: Literal["full", "head"]
    image_size: ImageSize | None
    interpolation: Interpolation | None
    mean: BandMeans | None
    std: BandDeviations | None
    head_epochs: Annotated[int, Field(ge=0)]
    epochs: Annotated[int, Field(ge=1)]
    head_learning_rate: Annotated[float, Field(gt=0)]
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(gt=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    patience: Annotated[int, Field(ge=1)]
    amp: bool
    threshold_maximises: Literal["balanced_accuracy", "f1"]
    tta: bool
    augment: Augment


class Evaluate(Section):
    """Evaluation of the classifier."""

    bootstrap: Annotated[int, Field(ge=20)]
    mistakes: Annotated[int, Field(ge=0)]


class Params(Section):
    """The whole params file."""

    model: str
    pretrained: bool
    # The limit of NumPy and scikit-learn.
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Annotated[int, Field(ge=1)]
    device: DeviceName
    backbones: dict[str, Backbone]
    download: Download
    transform: Transform
    tiles: BandRendering
    split: Split
    train: Train
    evaluate: Evaluate

    @model_validator(mode="after")
    def _model_is_known(self) -> Self:
        if self.model not in self.backbones:
            raise ValueError(
                f"model: {self.model!r} is not one of the backbones: {', '.join(self.backbones)}"
            )
        return self

    @property
    def backbone(self) -> Backbone:
        """The chosen backbone."""
        return self.backbones[self.model]


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        CapetownError: the file is not readable YAML, or a key or value is not allowed.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        return Params.model_validate(values)
    except OSError as error:
        raise CapetownError(f"cannot be read ({error.strerror})", where=path) from error
    except UnicodeDecodeError as error:
        raise CapetownError("not UTF-8", where=path, fix="save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise CapetownError(f"not valid YAML: {one_line(error, 500)}", where=path) from error
    except ValidationError as error:
        raise CapetownError(describe_errors(error), where=path) from error


def describe_errors(error: ValidationError) -> str:
    """Return what is wrong with which keys, in one line."""
    return "; ".join(map(_describe, error.errors()))


def _describe(error: Mapping[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    said = error["msg"].removeprefix("Value error, ")
    return f"{key}: {said}" if key else said
