"""Saliency: how much each part of a tile contributes to its logit, and the strongest point.

The last features of a backbone are coarse: 7 by 7 cells on a tile, each twice as wide as a pool.
Earlier features are finer but less specific, so the maps of several levels are averaged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

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

# Side in input pixels of the smallest cells that are used. Smaller ones respond only to edges.
FINEST = 8


def saliency_maps(
    model: nn.Module, manifest: ModelManifest, pixels: Pixels, *, towards_yes: bool
) -> Heat:
    """Maps of the parts of tiles that raise their logits, or lower them.

    The mean over levels of the `contributions` of one sign, each level scaled to a maximum of 1 and
    resized to the tile. The model is in evaluation mode, and the pixels are uint8 of shape (tiles,
    size, size, 3) in its image size.

    Returns:
        Shape (tiles, size, size), from 0 to a maximum of 1 per tile; all 0 if nothing contributes.

    Raises:
        CapetownError: the device's memory is too small.
    """
    device = next(model.parameters()).device
    sign = 1 if towards_yes else -1
    with memory_errors(f"saliency of {len(pixels)} tiles"):
        images = batch_to_device(pixels, device).float() / 255
        found = contributions(model, normalise(images, manifest.mean, manifest.std))
        levels = [_scaled(sign * level)[:, None] for level in found]
    resize = partial(functional.interpolate, size=pixels.shape[1:3], mode="bilinear")
    heat = torch.stack([resize(level)[:, 0] for level in levels])
    return _scaled(heat.mean(0)).cpu().numpy()


def strongest_points(heat: Heat) -> Points:
    """The most salient point of each tile, from its map, as shares of its width and height.

    Shape (tiles, 2), from the left and from the top: the centre of a pixel; NaN if all is 0.
    """
    tiles, height, width = heat.shape
    # Rounded: the first of equally strong pixels is taken on every machine.
    row, column = np.divmod(heat.reshape(tiles, -1).round(4).argmax(axis=1), width)
    points = np.stack([(column + 0.5) / width, (row + 0.5) / height], axis=1)
    points[heat.max(axis=(1, 2)) <= 0] = np.nan
    return points


def contributions(model: nn.Module, batch: Tensor) -> list[Tensor]:
    """The contribution of each cell to the logit, by features of several levels, the last first.

    HiResCAM (Draelos and Carin 2020): features times their gradients, summed over channels. For the
    last features, under a head that averages and weighs them, these sum to the logit without its
    bias. For earlier features they are a first-order approximation. Features without a grid (tokens
    of transformers) are replaced by the input, averaged over patches. `model` is a timm model in
    evaluation mode, and `batch` are normalised images of shape (images, 3, size, size).

    Returns:
        float32, one tensor per level, shape (images, height, width) of its features.
    """
    with torch.enable_grad(), _recorded(model) as recorded:
        image = batch.detach().clone().requires_grad_(True)
        last = model.forward_features(image)  # type: ignore[operator]
        # Some architectures return several features, or tokens.
        if has_grid := isinstance(last, Tensor) and last.ndim == 4:
            levels = [(last, model.num_features), *recorded]
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
    return found if has_grid else [functional.adaptive_avg_pool2d(found[0], patches)]


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[tuple[Tensor, int]]]:
    """A list that the forward pass fills with earlier features and their number of channels.

    They are the last ones of each of timm's levels, from `FINEST` to the second coarsest.
    """
    levels = {level["reduction"]: level for level in getattr(model, "feature_info", [])}
    modules = dict(model.named_modules())
    recorded: list[tuple[Tensor, int]] = []
    hooks = []
    for reduction, level in levels.items():
        if not FINEST <= reduction < max(levels) or level["module"] not in modules:
            continue

        def record(
            _: nn.Module, __: object, output: object, channels: int = level["num_chs"]
        ) -> Tensor | None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return None
            recorded.append((output, channels))
            # The next layer may work in place.
            return output.clone()

        hooks.append(modules[level["module"]].register_forward_hook(record))
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _scaled(maps: Tensor) -> Tensor:
    """Maps with negative values set to 0, each scaled to a maximum of 1."""
    positive = maps.clamp(min=0)
    return positive / positive.amax((1, 2), keepdim=True).clamp(min=1e-12)
