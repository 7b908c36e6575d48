"""Applying a model to packed tiles: no gradients, no augmentation, in order."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from capetown.errors import CapetownError
from capetown.imagery.reading import Pixels
from capetown.pools.model.devices import memory_errors

BATCH_SIZE = 32


def batch_to_device(pixels: Pixels, device: torch.device) -> Tensor:
    """Packed tiles (images, size, size, 3) as a uint8 tensor (images, 3, size, size).

    The tensor keeps the order of the bytes, which is torch's channels-last.
    """
    batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    if device.type == "cuda":
        batch = batch.pin_memory()
    return batch.to(device, non_blocking=True).permute(0, 3, 1, 2)


def normalise(batch: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Shift and scale values from 0 to 1, by band, as the backbone was trained."""
    shift = torch.tensor(mean, device=batch.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=batch.device).view(1, 3, 1, 1)
    return ((batch - shift) / scale).contiguous(memory_format=torch.channels_last)


def flipped_and_turned(batch: Tensor) -> Iterator[Tensor]:
    """The eight flips and quarter turns of square images, as they are first."""
    for turned in (batch, batch.transpose(2, 3)):
        for dimensions in ((), (2,), (3,), (2, 3)):
            yield turned.flip(dimensions) if dimensions else turned


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    pixels: Pixels,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    tta: bool = False,
) -> npt.NDArray[np.float64]:
    """The logit of ``yes`` of every tile; leaves the model in evaluation mode.

    Args:
        model: on the device to use.
        pixels: uint8, shape (tiles, size, size, 3).
        mean: of the backbone's input, by band.
        std: likewise.
        tta: average the logits of a tile's eight flips and quarter turns.

    Raises:
        CapetownError: if the device's memory is too small, or a logit is no number.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = []
    with memory_errors(f"{BATCH_SIZE} tiles at once, without training"):
        for start in range(0, len(pixels), BATCH_SIZE):
            batch = batch_to_device(pixels[start : start + BATCH_SIZE], device).float() / 255
            views = flipped_and_turned(batch) if tta else [batch]
            answers = [model(normalise(view, mean, std))[:, 0].float() for view in views]
            logits.append(torch.stack(answers).mean(0).cpu())
    found = torch.cat(logits).double().numpy() if logits else np.empty(0)
    if wrong := int(np.sum(~np.isfinite(found))):
        raise CapetownError(
            f"the model's answer to {wrong} of {len(found)} tiles is no number: its weights are "
            "damaged, or its learning rates were too high; train again."
        )
    return found
