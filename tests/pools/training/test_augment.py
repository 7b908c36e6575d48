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

from capetown.pools.model.architecture import build_model, classifier_layers
from capetown.pools.model.devices import to_device
from capetown.pools.model.inference import batch_to_device, normalise, predict_logits
from capetown.pools.training.augment import augment, draws
from tests.pools.training.tiny import CPU, PARAMS, SMALL, STILL, fold

# In the order of `augment`.
PILLOW: dict[str, Callable[[Image.Image], Any]] = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def to_batch(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_flips_and_turns_are_the_eight_of_a_square_and_equally_likely() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    eight = [np.rot90(f, turns) for f in (image[0], image[0][::-1]) for turns in range(4)]
    batch = to_batch(image.repeat(800, axis=0))
    how = STILL.model_copy(update={"flips": True})
    changed = augment(batch, torch.from_numpy(draws(0, 0, 800)), how).permute(0, 2, 3, 1) * 255
    counts = [sum(bool((c.round().numpy() == e).all()) for c in changed) for e in eight]
    assert sum(counts) == 800
    assert min(counts) > 60


@pytest.mark.parametrize("kinds", [[], *([kind] for kind in PILLOW), [*PILLOW]])
def test_colours_change_as_in_pillow(kinds: list[str]) -> None:
    tile = np.random.default_rng(0).integers(80, 160, (8, 8, 3), dtype=np.uint8)
    drawn = torch.tensor([0.0, 0.5, 0.7, 1.0])
    how = STILL.model_copy(update=dict.fromkeys(kinds, 0.5))
    changed = augment(to_batch(np.stack([tile] * 4)), drawn[:, None].expand(4, 7), how) * 255
    for factor, found in zip((0.5, 1.0, 1.2, 1.5), changed, strict=True):
        expected = Image.fromarray(tile)
        for kind in kinds:
            expected = PILLOW[kind](expected).enhance(factor)
        assert found.permute(1, 2, 0).numpy() == pytest.approx(np.array(expected), abs=3)  # Pillow truncates


def test_scaling_zooms_about_the_centre() -> None:
    pixels = np.zeros((1, 9, 9, 3), dtype=np.uint8)
    pixels[0, 4, 4] = 255
    zoomed = torch.zeros(1, 7)
    how = STILL.model_copy(update={"scale": 0.5})
    zoomed[0, 3] = 1.0
    larger = augment(to_batch(pixels), zoomed, how)[0, 0]
    zoomed[0, 3] = 0.0
    smaller = augment(to_batch(pixels), zoomed, how)[0, 0]
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
    look = partial(predict_logits, Corner(), tiles, mean=[0] * 3, std=[1] * 3)
    assert look().tolist() == [1, 0]
    # Two of the eight put each corner there, and none a place that is no corner.
    assert look(tta=True).tolist() == [0.25, 0]


def test_logits_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = to_device(build_model(SMALL, image_size=64, pretrained=False, seed=0), CPU)
    nn.init.ones_(next(classifier_layers(model)[0].parameters()))
    tiles = fold(7).pixels
    monkeypatch.setattr("capetown.pools.model.inference.BATCH_SIZE", 3)
    found = predict_logits(model, tiles, mean=[0.5] * 3, std=[0.2] * 3)
    batch = normalise(batch_to_device(tiles, CPU).float() / 255, [0.5] * 3, [0.2] * 3)
    with torch.no_grad():
        expected = model.eval()(batch)[:, 0].numpy()
    assert found == pytest.approx(expected, abs=1e-4)
    assert batch[0, 0, 0, 0] == pytest.approx((tiles[0, 0, 0, 0] / 255 - 0.5) / 0.2)
