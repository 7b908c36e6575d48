"""Inference on decoded tiles: in order, without gradients and augmentation."""

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
    """Tiles (images, size, size, 3) as a uint8 tensor (images, 3, size, size).

    The bytes keep their order, which is torch's channels-last.
    """
    batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    if device.type == "cuda":
        batch = batch.pin_memory()
    return batch.to(device, non_blocking=True).permute(0, 3, 1, 2)


def normalise(batch: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean of each band from values from 0 to 1, and divide by the deviation."""
    shift = torch.tensor(mean, device=batch.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=batch.device).view(1, 3, 1, 1)
    return ((batch - shift) / scale).contiguous(memory_format=torch.channels_last)


def flipped_and_turned(batch: Tensor) -> Iterator[Tensor]:
    """The eight flips and quarter turns of square images, the unchanged images first."""
    for turned in (batch, batch.transpose(2, 3)):
        for dimensions in ((), (2,), (3,), (2, 3)):
            yield turned.flip(dimensions) if dimensions else turned


@torch.no_grad()
def predict_logits(
    model: nn.Module, pixels: Pixels, *,
    mean: Sequence[float], std: Sequence[float], tta: bool = False,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """The logit of ``yes`` for every tile. Leaves the model in evaluation mode, on its device.

    `pixels` are uint8 of shape (tiles, size, size, 3). `mean` and `std` of the input are by band.
    With `tta`, the logits of a tile's eight flips and quarter turns are averaged.

    Raises:
        CapetownError: the device's memory is too small, or a logit is not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    batches = []
    with memory_errors(f"{BATCH_SIZE} tiles at once, without training"):
        for start in range(0, len(pixels), BATCH_SIZE):
            batch = batch_to_device(pixels[start : start + BATCH_SIZE], device).float() / 255
            views = flipped_and_turned(batch) if tta else [batch]
            logits = [model(normalise(view, mean, std))[:, 0].float() for view in views]
            batches.append(torch.stack(logits).mean(0).cpu())
    found = torch.cat(batches).double().numpy() if batches else np.empty(0)
    if wrong := int(np.sum(~np.isfinite(found))):
        raise CapetownError(
            f"the model's logits of {wrong} of {len(found)} tiles are not finite: its weights are "
            "damaged, or its learning rates were too high",
            fix="train again",
        )
    return found
