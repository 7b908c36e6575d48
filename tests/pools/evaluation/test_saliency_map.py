"""Pictures of saliency."""

import numpy as np

from capetown.pools.evaluation.saliency_map import overlay, saliency_map
from capetown.pools.model.saliency import saliency_maps
from tests.pools.training.tiny import card_of, fold, outspoken_model


def test_the_picture_has_the_size_of_the_tile() -> None:
    architecture = "test_efficientnet.r160_in1k"
    model, card, pixels = outspoken_model(architecture), card_of(architecture), fold().pixels
    heat = saliency_map(model, card, pixels[1], towards_yes=True)
    assert np.allclose(heat, saliency_maps(model, card, pixels[:2], towards_yes=True)[1], atol=1e-5)
    assert overlay(pixels[1], heat).size == (64, 64)
    assert overlay(np.zeros((20, 30, 3), np.uint8), heat).size == (30, 20)


def test_strong_saliency_is_yellow_and_the_rest_stays_grey() -> None:
    heat = np.zeros((10, 10), np.float32)
    heat[2, 3] = 1
    picture = np.asarray(overlay(np.full((10, 10, 3), 100, np.uint8), heat))
    # 60 % yellow, (255, 255, 0), on 40 % grey.
    assert picture[2, 3].tolist() == [193, 193, 40]
    assert picture[7, 7].tolist() == [100, 100, 100]
