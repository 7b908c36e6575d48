"""Changes to images, and what the model makes of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor, nn

from capetown.pools.model.inference import predict_logits
from capetown.pools.training.augment import augment, draws
from tests.pools.training.tiny import PARAMS, STILL, fold

# In the order of `augment`.
PILLOW: dict[str, Callable[[Image.Image], Any]] = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def to_batch(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_flips_and_turns_are_the_eight_of_a_square_and_equally_likely() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    eight = [np.rot90(f, turns) for f in (image, image[::-1]) for turns in range(4)]
    how = STILL.model_copy(update={"flips": True})
    changed = augment(to_batch(np.stack([image] * 800)), torch.from_numpy(draws(0, 0, 800)), how)
    found = (changed.permute(0, 2, 3, 1) * 255).round().numpy()
    counts = [(found == expected).all((1, 2, 3)).sum() for expected in eight]
    assert sum(counts) == 800
    assert min(counts) > 60


@pytest.mark.parametrize("kinds", [[], *([kind] for kind in PILLOW), [*PILLOW]])
def test_colours_change_as_in_pillow(kinds: list[str]) -> None:
    tile = np.random.default_rng(0).integers(80, 160, (8, 8, 3), dtype=np.uint8)
    drawn = torch.tensor([0.0, 0.5, 0.7, 1.0])
    how = STILL.model_copy(update=dict.fromkeys(kinds, 0.5))
    changed = augment(to_batch(np.stack([tile] * 4)), drawn[:, None].expand(4, 7), how) * 255
    # Pillow truncates after each kind.
    for factor, found in zip((0.5, 1.0, 1.2, 1.5), changed, strict=True):
        expected = Image.fromarray(tile)
        for kind in kinds:
            expected = PILLOW[kind](expected).enhance(factor)
        assert found.permute(1, 2, 0).numpy() == pytest.approx(np.array(expected), abs=3)


def test_scaling_zooms_about_the_centre() -> None:
    pixels = np.zeros((1, 9, 9, 3), dtype=np.uint8)
    pixels[0, 4, 4] = 255
    drawn = torch.tensor([0.0, 1.0])[:, None].expand(2, 7)
    how = STILL.model_copy(update={"scale": 0.5})
    smaller, larger = augment(to_batch(pixels.repeat(2, 0)), drawn, how)[:, 0]
    assert larger[4, 4] == smaller[4, 4] == 1
    assert larger.sum() > 1.5 > smaller.sum()


def test_changes_depend_on_seed_epoch_and_tile_alone() -> None:
    assert np.array_equal(draws(1, 2, 5), draws(1, 2, 9)[:5])
    assert not np.array_equal(draws(1, 2, 5), draws(1, 3, 5))
    assert not np.array_equal(draws(1, 2, 5), draws(2, 2, 5))
    batch, drawn = to_batch(fold().pixels), torch.from_numpy(draws(0, 0, 12))
    together = augment(batch, drawn, PARAMS.train.augment)
    alone = augment(batch[7:8], drawn[7:8], PARAMS.train.augment)
    # A processor may sum another number of images in another order.
    assert torch.allclose(together[7:8], alone, atol=1e-6)


class Corner(nn.Module):
    """The logit is the red of an image's upper left corner."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch: Tensor) -> Tensor:
        return batch[:, 0, :1, 0] * self.weight


def test_test_time_augmentation_averages_the_eight_flips_and_turns() -> None:
    tiles = np.zeros((2, 4, 4, 3), np.uint8)
    tiles[0, 0, 0], tiles[1, 0, 1] = 255, 255
    logits = partial(predict_logits, Corner(), tiles, mean=[0.5] * 3, std=[0.25] * 3)
    assert logits().tolist() == [2, -2]
    # Two of the eight put the first pixel into the corner, and none the second.
    assert logits(tta=True).tolist() == [-1, -2]
