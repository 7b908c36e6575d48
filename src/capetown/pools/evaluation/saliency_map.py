"""Saliency: the places of a tile that led to a model's answer, as a picture."""

import numpy as np
from PIL import Image
from torch import nn

from capetown.imagery.reading import Pixels
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.model.saliency import Heat, saliency_maps


def saliency_map(
    model: nn.Module, card: ModelManifest, pixels: Pixels, *, towards_yes: bool
) -> Heat:
    """The `evidence` in one tile, shape (size, size).

    Args:
        model: a timm model on the device to use, in evaluation mode.
        card: the model's.
        pixels: uint8, shape (size, size, 3), of the card's image size.
        towards_yes: show what speaks for ``yes``, else what speaks for ``no``.

    Raises:
        CapetownError: if the device's memory is too small.
    """
    heat: Heat = saliency_maps(model, card, pixels[None], towards_yes=towards_yes)[0]
    return heat


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
