"""Saliency: the places of a tile that led to a model's answer."""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from capetown.pools.model.devices import memory_errors
from capetown.pools.model.inference import normalise, to_device
from capetown.pools.model.modelfile import ModelCard
from capetown.pools.tiles.reading import Pixels

Heat = npt.NDArray[np.float32]


def saliency(model: nn.Module, card: ModelCard, pixels: Pixels, *, towards_yes: bool) -> Heat:
    """The places that raise a tile's logit, or lower it.

    Args:
        model: a timm model on the device to use, in evaluation mode.
        card: the model's.
        pixels: uint8, shape (size, size, 3), of the card's image size.
        towards_yes: show what speaks for ``yes``, else what speaks for ``no``.

    Returns:
        From 0 to 1, the strongest being 1, shape (size, size); all 0 if nothing pushes that way.

    Raises:
        CapetownError: if the device's memory is too small.
    """
    device = next(model.parameters()).device
    with memory_errors("what speaks for the answer to one tile"):
        batch = normalise(to_device(pixels[None], device).float() / 255, card.mean, card.std)
        wanted = contributions(model, batch) * (1 if towards_yes else -1)
    heat = functional.interpolate(
        wanted.clamp(min=0)[None, None], pixels.shape[:2], mode="bilinear", align_corners=False
    )[0, 0]
    return (heat / heat.max().clamp(min=1e-12)).cpu().numpy()


def contributions(model: nn.Module, batch: Tensor) -> Tensor:
    """The contribution of each place to the logit.

    HiResCAM (Draelos and Carin 2020): the last features times their gradients, summed over
    channels. Under a head that averages features and weighs them, these sum to the logit without
    its bias. Where features have no place (transformers of tokens), the input's own gradients,
    averaged over patches.

    Args:
        model: a timm model in evaluation mode.
        batch: one normalised image, shape (1, 3, size, size).

    Returns:
        float32, shape (height, width), of the features' resolution.
    """
    with torch.enable_grad():
        features = model.forward_features(batch)  # type: ignore[operator]
        # Some architectures have features of several kinds, or tokens of them.
        if isinstance(features, Tensor) and features.ndim == 4:
            features = features.detach().requires_grad_(True)
            logit = model.forward_head(features)[0, 0]  # type: ignore[operator]
            contributions = features * torch.autograd.grad(logit, features)[0]
            channels = 1 if features.shape[1] == model.num_features else 3
            return torch.sum(contributions.detach(), channels)[0].float()
        image = batch.detach().clone().requires_grad_(True)
        gradient = torch.autograd.grad(model(image)[0, 0], image)[0]
    patches = max(1, batch.shape[-1] // 16)
    return functional.adaptive_avg_pool2d((batch * gradient).sum(1), patches)[0].float()


def overlay(pixels: Pixels, heat: Heat) -> Image.Image:
    """A tile in grey with the heat, stretched to its size, over it: from red to yellow."""
    height, width = pixels.shape[:2]
    stretched = Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR)
    strength = np.asarray(stretched)[..., None]
    grey = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    colour = np.concatenate(
        [np.full_like(strength, 255), 255 * strength, np.zeros_like(strength)], axis=2
    )
    # The tile stays visible where the heat is greatest.
    opacity = 0.6 * strength
    return Image.fromarray((grey * (1 - opacity) + colour * opacity).round().astype(np.uint8))
