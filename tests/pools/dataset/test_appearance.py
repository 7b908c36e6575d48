"""Colour and texture of tiles, against a slow description by hand and against changed tiles."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from capetown.pools.dataset.appearance import (
    Appearance,
    describe,
    fit_appearance,
    is_unlike,
    look_different,
)
from tests.pools import drawings

RNG = np.random.default_rng(0)


def test_the_numbers_equal_those_of_slow_formulas() -> None:
    image = RNG.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    bands = [[int(v) for v in image[..., band].ravel()] for band in range(3)]
    grey = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in image.tolist()]
    inner = [(y, x) for y in range(5) for x in range(4)]
    slope = np.mean(
        [(grey[y][x + 1] - grey[y][x]) ** 2 + (grey[y + 1][x] - grey[y][x]) ** 2 for y, x in inner]
    )
    curvature = np.mean(
        [
            abs(4 * grey[y][x] - grey[y - 1][x] - grey[y + 1][x] - grey[y][x - 1] - grey[y][x + 1])
            for y in range(1, 5)
            for x in range(1, 4)
        ]
    )
    red, green, blue = bands
    amounts = [
        *map(np.mean, bands),
        *(np.std(band, ddof=1) for band in bands),
        np.std(np.subtract(red, green), ddof=1),
        np.std(np.subtract(green, blue), ddof=1),
        slope**0.5,
        curvature,
    ]
    pairs = [(red, green), (red, blue), (green, blue)]
    correlations = [np.corrcoef(*pair)[0, 1] for pair in pairs]
    found = describe([image])
    assert found.shape == (1, 13)
    assert found[0, :10] == pytest.approx(np.log(np.add(amounts, 4)), rel=1e-5)
    assert np.tanh(found[0, 10:]) == pytest.approx(correlations, abs=1e-3)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_images_have_finite_numbers(value: int) -> None:
    assert np.isfinite(describe([np.full((9, 9, 3), value, np.uint8)])).all()


def test_changed_tiles_differ_and_tiles_of_unseen_sheets_do_not() -> None:
    images, sheets = drawings(8, 25, seed=1)
    usual = fit_appearance(describe(images), sheets)
    assert usual
    unseen, _ = drawings(8, 25, seed=2)
    assert look_different(unseen, usual).mean() < 0.1
    changed = {
        "bands swapped": [image[..., [2, 0, 1]] for image in unseen],
        "half brightness": [image // 2 for image in unseen],
        "grey": [image[..., :1].repeat(3, axis=2) for image in unseen],
        "blurred": [gaussian_filter(image, (2, 2, 0)) for image in unseen],
    }
    for name, tiles in changed.items():
        differ = look_different(tiles, usual)
        assert differ.mean() > 0.8, name
        assert is_unlike(int(differ.sum()), len(differ))
    written = Appearance.model_validate_json(usual.model_dump_json())
    assert (look_different(unseen, written) == look_different(unseen, usual)).all()


def test_few_tiles_or_groups_give_no_limit() -> None:
    images, sheets = drawings(3, 10, seed=3)
    described = describe(images)
    assert fit_appearance(described, sheets)
    assert fit_appearance(described[:29], sheets[:29]) is None
    assert fit_appearance(described, np.repeat(["A", "B"], 15)) is None
    assert not look_different(images, None).any()


def test_a_set_needs_ten_tiles_of_which_most_differ() -> None:
    assert is_unlike(6, 10)
    assert not is_unlike(5, 10)
    assert not is_unlike(9, 9)
