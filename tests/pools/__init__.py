"""The pools' tests, and what several of them share."""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from capetown.imagery.tiff import Pixels
from capetown.pools.dataset.drift import TypicalProfile

# What most tiles look like that the tests' models learned from.
TYPICAL = TypicalProfile(side=40, resolution=0.0, dark=False, grey=False)


def drawings(
    sheets: int, each: int, seed: int, side: int = 32
) -> tuple[list[Pixels], npt.NDArray[np.str_]]:
    """Greenish noise with coarse and fine detail; each sheet has its own light."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(sheets):
        light = rng.normal(0, 8, 3)
        for _ in range(each):
            coarse = gaussian_filter(rng.normal(0, 1, (side, side, 1)), (3, 3, 0)) * 150
            detail = rng.normal(0, rng.uniform(5, 9), (side, side, 3))
            values = np.array([100, 130, 80]) + light + coarse * [1, 0.8, 0.6] + detail
            images.append(values.clip(0, 255).astype(np.uint8))
    return images, np.repeat([f"S{n}" for n in range(sheets)], each)
