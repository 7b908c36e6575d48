"""Evidence for a model's answer: the places of a tile that led to it, and the strongest of them.

A backbone's last features are coarse: of 7 by 7 cells on a tile, each is twice as wide as a pool.
Features on the way there are finer but know less, so that the levels are averaged.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from capetown.imagery.reading import Pixels
from capetown.pools.model.devices import memory_errors
from capetown.pools.model.inference import batch_to_device, normalise
from capetown.pools.model.manifest import ModelManifest

Heat = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

# Pixels of the input a side of the finest cells that are looked at: smaller ones see edges alone.
FINEST = 8


def saliency_maps(
    model: nn.Module, card: ModelManifest, pixels: Pixels, *, towards_yes: bool
) -> Heat:
    """The places that raise tiles' logits, or lower them.

    The mean of the levels' `contributions`, those of the other sign left out, each level scaled to
    a maximum of 1 and stretched to the tile.

    Args:
        model: a timm model on the device to use, in evaluation mode.
        card: the model's.
        pixels: uint8, shape (tiles, size, size, 3), of the card's image size.
        towards_yes: what speaks for ``yes``, else what speaks for ``no``.

    Returns:
        From 0 to 1, the strongest of a tile being 1, shape (tiles, size, size); all 0 if nothing
        pushes that way.

    Raises:
        CapetownError: if the device's memory is too small.
    """
    device = next(model.parameters()).device
    sign = 1 if towards_yes else -1
    with memory_errors(f"what speaks for the answer to {len(pixels)} tiles"):
        batch = normalise(batch_to_device(pixels, device).float() / 255, card.mean, card.std)
        levels = [_scaled(sign * level) for level in contributions(model, batch)]
    heat = torch.stack(
        [
            functional.interpolate(
                level[:, None], pixels.shape[1:3], mode="bilinear", align_corners=False
            )[:, 0]
            for level in levels
        ]
    )
    return _scaled(heat.mean(0)).cpu().numpy()


def strongest_points(heat: Heat) -> Points:
    """The point of strongest evidence in each tile, as shares of its width and height.

    Args:
        heat: as `evidence` gives it.

    Returns:
        Shape (tiles, 2): from the left and from the top, the middle of a pixel of the input; NaN
        where there is no evidence. A tile's size in pixels makes pixels of it.
    """
    tiles, height, width = heat.shape
    # Rounded, so that of equally strong pixels the first is taken on every machine.
    row, column = np.divmod(heat.reshape(tiles, -1).round(4).argmax(axis=1), width)
    points = np.stack([(column + 0.5) / width, (row + 0.5) / height], axis=1)
    points[heat.max(axis=(1, 2)) <= 0] = np.nan
    return points


def contributions(model: nn.Module, batch: Tensor) -> list[Tensor]:
    """The contribution of each place to the logit, by features of several levels, the last first.

    HiResCAM (Draelos and Carin 2020): features times their gradients, summed over channels. Of the
    last features, under a head that averages them and weighs them, these sum to the logit without
    its bias; of earlier ones, they are what a first-order model of all that follows says. Where
    features have no place (transformers of tokens), the input's own gradients, averaged over
    patches.

    Args:
        model: a timm model in evaluation mode.
        batch: normalised images, shape (images, 3, size, size).

    Returns:
        float32, shape (images, height, width) each, of the features' resolution.
    """
    with torch.enable_grad(), _kept(model) as kept:
        image = batch.detach().clone().requires_grad_(True)
        last = model.forward_features(image)  # type: ignore[operator]
        # Some architectures have features of several kinds, or tokens of them.
        if placed := isinstance(last, Tensor) and last.ndim == 4:
            levels = [(last, model.num_features), *kept]
        else:
            levels = [(image, image.shape[1])]
        logits = model.forward_head(last)[:, 0]  # type: ignore[operator]
        gradients = torch.autograd.grad(
            logits.sum(), [features for features, _ in levels], allow_unused=True
        )
    found = [
        (features * gradient).detach().sum(1 if features.shape[1] == channels else 3).float()
        for (features, channels), gradient in zip(levels, gradients, strict=True)
        if gradient is not None
    ]
    patches = max(1, batch.shape[-1] // 16)
    return found if placed else [functional.adaptive_avg_pool2d(found[0], patches)]


@contextmanager
def _kept(model: nn.Module) -> Iterator[list[tuple[Tensor, int]]]:
    """A list that takes features on the way to the last ones, with how many channels they have.

    Those of each of timm's levels, the last of a resolution, from `FINEST` to before the coarsest.
    """
    levels = {level["reduction"]: level for level in getattr(model, "feature_info", [])}
    modules = dict(model.named_modules())
    kept: list[tuple[Tensor, int]] = []
    hooks = []
    for reduction, level in levels.items():
        if not FINEST <= reduction < max(levels) or level["module"] not in modules:
            continue

        def keep(
            _: nn.Module, __: object, output: object, channels: int = level["num_chs"]
        ) -> Tensor | None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return None
            kept.append((output, channels))
            # What follows may work in place.
            return output.clone()

        hooks.append(modules[level["module"]].register_forward_hook(keep))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _scaled(maps: Tensor) -> Tensor:
    """Maps without what is below 0, the largest of each being 1."""
    positive = maps.clamp(min=0)
    return positive / positive.amax((1, 2), keepdim=True).clamp(min=1e-12)
