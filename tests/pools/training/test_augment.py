"""Changes to images, and what the model makes of them."""

from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from capetown.pools.model.architecture import build_model, classifier_layers
from capetown.pools.model.devices import to_device
from capetown.pools.model.inference import batch_to_device, normalise, predict_logits
from capetown.pools.training.augment import augment, draws
from tests.pools.training.tiny import CPU, PARAMS, SMALL, STILL, fold


def to_batch(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_no_change_is_no_change() -> None:
    batch = to_batch(fold().pixels)
    changed = augment(batch, torch.from_numpy(draws(0, 0, 12)), STILL)
    assert torch.equal(changed, batch.float() / 255)


def test_flips_and_turns_are_the_eight_of_a_square_and_equally_likely() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    eight = [np.rot90(f, turns) for f in (image[0], image[0][::-1]) for turns in range(4)]
    batch = to_batch(image.repeat(800, axis=0))
    how = STILL.model_copy(update={"flips": True})
    changed = augment(batch, torch.from_numpy(draws(0, 0, 800)), how).permute(0, 2, 3, 1) * 255
    counts = [sum(bool((c.round().numpy() == e).all()) for c in changed) for e in eight]
    assert sum(counts) == 800
    assert min(counts) > 60


def test_colour_changes_keep_within_their_reach() -> None:
    batch = to_batch(np.full((200, 4, 4, 3), (100, 120, 140), dtype=np.uint8))
    drawn = torch.from_numpy(draws(0, 0, 200))

    def change(**how: float) -> Tensor:
        return augment(batch, drawn, STILL.model_copy(update=how)) * 255

    bright = change(brightness=0.2)[:, 0, 0, 0]
    assert 80 <= bright.min() < 85
    assert 115 < bright.max() <= 120
    # A change of saturation leaves the grey value alone.
    spread = change(saturation=0.5)[:, :, 0, 0]
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(spread @ luma, torch.tensor([100.0, 120, 140]) @ luma, atol=1e-2)
    reach = spread[:, 2] - spread[:, 0]
    assert 20 <= reach.min() < 25
    assert 55 < reach.max() <= 60


def test_contrast_changes_about_the_mean() -> None:
    pixels = np.full((200, 2, 2, 3), 100, dtype=np.uint8)
    pixels[:, 0] = 140
    how = STILL.model_copy(update={"contrast": 0.5})
    changed = augment(to_batch(pixels), torch.from_numpy(draws(0, 0, 200)), how) * 255
    assert torch.allclose(changed.mean((1, 2, 3)), torch.full((200,), 120.0), atol=1e-2)
    reach = changed[:, 0, 0, 0] - changed[:, 0, 1, 0]
    assert 20 <= reach.min() < 25
    assert 55 < reach.max() <= 60


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
