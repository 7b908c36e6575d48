"""Saliency maps and their strongest points."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from capetown.pools.model.architecture import classifier_layers, create
from capetown.pools.model.saliency import contributions, saliency_maps, strongest_points
from tests.pools.training.tiny import card_of, fold, outspoken_model

CARD = card_of("").model_copy(update={"mean": [0.0] * 3, "std": [1.0] * 3})


class Brightness(nn.Module):
    """A backbone whose features are means of squares, and a head that adds them."""

    num_features = 3
    feature_info = (
        {"module": "fine", "reduction": 8, "num_chs": 3},
        {"module": "coarse", "reduction": 32, "num_chs": 3},
    )

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.fine, self.coarse = nn.AvgPool2d(8), nn.AvgPool2d(4)
        self.sign = nn.Parameter(torch.tensor(sign))

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.coarse(functional.relu(self.fine(images), inplace=True))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        return self.sign * features.sum((1, 2, 3))[:, None]


def test_levels_lie_between_the_finest_and_the_last() -> None:
    images = torch.zeros(1, 3, 64, 64)
    images[0, :, 16:24, 40:48] = 1
    last, fine = contributions(Brightness(), images)
    # A sixteenth of the large cell is bright, in three channels.
    assert last[0].tolist() == [[0, 3 / 16], [0, 0]]
    # The small cell is wholly bright; one of sixteen is in the large one.
    assert fine.shape == (1, 8, 8)
    assert fine[0].nonzero().tolist() == [[2, 5]]
    assert fine[0, 2, 5].item() == 3 / 16


def test_the_strongest_point_lies_in_the_brightest_square_if_there_is_one() -> None:
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    pixels[0, 16:24, 40:48] = 255  # fills a fine cell
    pixels[0, 48:52, 8:12] = 255  # fills a quarter of one
    heat = saliency_maps(Brightness(), CARD, pixels, towards_yes=True)
    [(x, y)] = strongest_points(heat) * 64
    assert 40 <= x < 48
    assert 16 <= y < 24
    without = saliency_maps(Brightness(-1.0), CARD, pixels, towards_yes=True)
    assert without.max() == 0
    assert np.isnan(strongest_points(without)).all()
    assert saliency_maps(Brightness(-1.0), CARD, pixels, towards_yes=False).max() == 1


def test_the_last_levels_contributions_sum_to_the_logit() -> None:
    model = outspoken_model("test_efficientnet.r160_in1k")
    bias = list(classifier_layers(model)[0].parameters())[-1]
    batch = torch.rand(2, 3, 64, 64)
    total = contributions(model, batch)[0].sum((1, 2)).numpy()
    assert total == pytest.approx((model(batch) - bias)[:, 0].detach().numpy(), abs=1e-4)


@pytest.mark.parametrize(
    "architecture",
    ["test_efficientnet.r160_in1k", "test_vit.r160_in1k", "caformer_s18", "resnet18"],
)
def test_saliency_is_towards_yes_or_no(architecture: str) -> None:
    pixels, card = fold().pixels[:2], card_of(architecture)
    model = outspoken_model(architecture)
    up, down = (saliency_maps(model, card, pixels, towards_yes=yes) for yes in (True, False))
    for heat in (up, down):
        assert heat.shape == (2, 64, 64)
        assert heat.min() >= 0
        assert all(tile.max() in (0, pytest.approx(1)) for tile in heat)
    assert not np.array_equal(up, down)
    assert not any(module._forward_hooks for module in model.modules())


def test_channels_may_come_last() -> None:
    shapes = [level.shape for level in contributions(
        create("swin_tiny_patch4_window7_224", 64).eval(), torch.rand(1, 3, 64, 64)
    )]  # fmt: skip
    assert shapes == [(1, 2, 2), (1, 8, 8), (1, 4, 4)]
