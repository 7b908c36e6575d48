"""Random augmentation of whole batches of tiles, on the training device.

Each tile's random numbers depend on (seed, epoch, index of the tile) only, and not on its batch
or the number of processes.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from capetown.params import Augment

# Weights of red, green and blue in perceived brightness (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def draws(seed: int, epoch: int, tiles: int) -> npt.NDArray[np.float32]:
    """Uniform numbers from 0 to 1, shape (tiles, 7), for `augment`."""
    return np.random.default_rng((seed, epoch)).random((tiles, 7), dtype=np.float32)


def augment(batch: Tensor, drawn: Tensor, settings: Augment) -> Tensor:
    """Turn, flip, scale and tint each image of a batch by its own random numbers.

    The eight flips and quarter turns are equally likely. Brightness, contrast and saturation are
    multiplied by 1 plus or minus at most their setting. `batch` is uint8 of shape (images, 3, size,
    size), and `drawn` has the images' rows of `draws`, on the same device. The result is float32
    from 0 to 1.
    """
    if settings.flips:
        batch = _flip_and_turn(batch, drawn)
    pixels = batch.float() / 255
    if settings.scale > 0:
        pixels = _scale(pixels, _factor(drawn[:, 3], settings.scale))
    return _tint(pixels, drawn, settings).clamp(0, 1)


def _tint(pixels: Tensor, drawn: Tensor, settings: Augment) -> Tensor:
    """Brightness, then contrast about the mean grey, then saturation about each pixel's grey.

    All three are linear: one matrix of the bands and one shift per image apply them at once.
    """
    luma = torch.tensor(LUMA, device=pixels.device)
    brightness = _factor(drawn[:, 4], settings.brightness)
    contrast = _factor(drawn[:, 5], settings.contrast)
    saturation = _factor(drawn[:, 6], settings.saturation).view(-1, 1, 1)
    mean = (pixels.mean((2, 3)) @ luma).view(-1, 1, 1, 1)
    bands = torch.lerp(luma.expand(3, 3), torch.eye(3, device=pixels.device), saturation)
    mixed = torch.einsum("bchw,bdc->bdhw", pixels, bands * (brightness * contrast).view(-1, 1, 1))
    return mixed + brightness * (1 - contrast) * mean


def _flip_and_turn(batch: Tensor, drawn: Tensor) -> Tensor:
    chosen = (drawn[:, :3] < 0.5).view(-1, 3, 1, 1, 1)
    batch = torch.where(chosen[:, 0], batch.flip(3), batch)
    batch = torch.where(chosen[:, 1], batch.flip(2), batch)
    return torch.where(chosen[:, 2], batch.transpose(2, 3), batch)


def _factor(drawn: Tensor, reach: float) -> Tensor:
    return (1 + reach * (2 * drawn - 1)).view(-1, 1, 1, 1)


def _scale(pixels: Tensor, factor: Tensor) -> Tensor:
    """Zoom about the centre. Pixels from outside the image mirror its edge."""
    matrix = torch.eye(2, 3, device=pixels.device) / factor.view(-1, 1, 1)
    grid = functional.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
