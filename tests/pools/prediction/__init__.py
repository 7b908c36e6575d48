"""A small model with weights of its own, and commands that use it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from capetown.cli import parser
from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED
from capetown.pools.model.manifest import ModelManifest
from tests.pools import TYPICAL

CARD = ModelManifest(
    architecture="test_efficientnet.r160_in1k", image_size=32, mean=[0.5] * 3, std=[0.5] * 3,
    interpolation="bicubic", tiles=AS_STORED, typical=TYPICAL, classes=["no", "yes"], threshold=0.6,
    temperature=2.0, dataset="", packages={},
)  # fmt: skip


Model = tuple[nn.Module, Path]
Predict = Callable[..., pd.DataFrame]
Refusal = Callable[..., CapetownError]


def write_tiles(folder: Path, count: int) -> Path:
    """A folder of numbered random tiles."""
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (count, 40, 40, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:03}.tif")
    return folder


def refused(*arguments: str) -> CapetownError:
    """The error of a command: one line without a full stop."""
    given = parser().parse_args(arguments)
    with pytest.raises(CapetownError) as caught:
        given.handler(given)
    assert "\n" not in str(caught.value)
    return caught.value
