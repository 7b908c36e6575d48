"""What spoke for an answer, and the pictures of it."""

import numpy as np
import pytest
import torch

from capetown.pools.evaluation.saliency import contributions, overlay, saliency
from capetown.pools.model.backbones import heads
from tests.pools.training.tiny import card_of, fold, outspoken_model


def test_the_contributions_of_all_places_sum_to_the_logit() -> None:
    model = outspoken_model("test_efficientnet.r160_in1k")
    bias = list(heads(model)[0].parameters())[-1]
    batch = torch.rand(1, 3, 64, 64)
    assert contributions(model, batch).sum().item() == pytest.approx(
        (model(batch) - bias).item(), abs=1e-4
    )


@pytest.mark.parametrize(
    "architecture", ["test_efficientnet.r160_in1k", "test_vit.r160_in1k", "caformer_s18"]
)
def test_saliency_shows_what_speaks_for_and_against(architecture: str) -> None:
    pixels, card = fold().pixels[1], card_of(architecture)
    model = outspoken_model(architecture)
    up = saliency(model, card, pixels, towards_yes=True)
    down = saliency(model, card, pixels, towards_yes=False)
    for heat in (up, down):
        assert heat.shape == (64, 64)
        assert heat.min() >= 0
        assert heat.max() in (0, pytest.approx(1))
    assert not np.array_equal(up, down)
    assert overlay(pixels, up).size == (64, 64)
    assert overlay(np.zeros((20, 30, 3), np.uint8), up).size == (30, 20)
