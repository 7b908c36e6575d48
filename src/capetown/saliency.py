"""What in a tile made a model say what it said."""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from capetown.inference import normalise, to_device
from capetown.modelfile import ModelCard
from capetown.tiles import Pixels

Heat = npt.NDArray[np.float32]


def saliency(model: nn.Module, card: ModelCard, pixels: Pixels, *, towards_yes: bool) -> Heat:
    """Where the backbone's last features push the logit up, or down.

    HiResCAM (Draelos and Carin 2020): features times their gradients, summed over channels. For a
    head that averages and weighs features these are their contributions to the logit.

    Args:
        model: a timm model on the device to use, in evaluation mode.
        card: the model's.
        pixels: uint8, shape (size, size, 3), of the card's image size.
        towards_yes: show what speaks for ``yes``, else what speaks for ``no``.

    Returns:
        From 0 to 1, the strongest being 1, shape (size, size); all 0 if nothing pushes that way.
    """
    device = next(model.parameters()).device
    batch = normalise(to_device(pixels[None], device).float() / 255, card.mean, card.std)
    with torch.enable_grad():
        features = model.forward_features(batch).detach().requires_grad_(True)  # type: ignore[operator]
        logit = model.forward_head(features)[0, 0]  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(logit, features)
    pushes = _as_map(model, features.detach() * gradient) * (1 if towards_yes else -1)
    heat = functional.interpolate(
        pushes.clamp(min=0), size=pixels.shape[:2], mode="bilinear", align_corners=False
    )[0, 0]
    return (heat / heat.max().clamp(min=1e-12)).float().cpu().numpy()


def _as_map(model: nn.Module, features: Tensor) -> Tensor:
    """Sum over channels to (1, 1, height, width), from timm's layouts NCHW, NHWC and tokens."""
    if features.ndim == 3:
        tokens = features.sum(2)[:, getattr(model, "num_prefix_tokens", 0) :]
        side = round(tokens.shape[1] ** 0.5)
        return tokens.reshape(1, 1, side, side)
    channels = 1 if features.shape[1] == model.num_features else 3
    return features.sum(channels)[:, None]


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
