"""Saliency as a picture: the points of a tile that influence the model's prediction."""

import numpy as np
from PIL import Image
from torch import nn

from capetown.imagery.reading import Pixels
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.model.saliency import Heat, saliency_maps


def saliency_map(
    model: nn.Module, card: ModelManifest, pixels: Pixels, *, towards_yes: bool
) -> Heat:
    """The saliency of one tile, shape (size, size): `saliency_maps` for a single one."""
    heat: Heat = saliency_maps(model, card, pixels[None], towards_yes=towards_yes)[0]
    return heat


def overlay(pixels: Pixels, heat: Heat) -> Image.Image:
    """A grey tile with its saliency on top, from red to yellow."""
    height, width = pixels.shape[:2]
    stretched = Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR)
    strength = np.asarray(stretched)[..., None]
    grey = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    colour = np.concatenate(
        [np.full_like(strength, 255), 255 * strength, np.zeros_like(strength)], axis=2
    )
    # The tile stays visible under the strongest saliency.
    opacity = 0.6 * strength
    return Image.fromarray((grey * (1 - opacity) + colour * opacity).round().astype(np.uint8))
