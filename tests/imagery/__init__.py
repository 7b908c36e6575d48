"""Georeferenced images that several test files write."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

# A corner at Cape Town's city hall, in UTM zone 34 south.
UTM, WEST, NORTH = "EPSG:32734", 262000.0, 6243000.0
# Pixels of 2.5 m. A world file refers to the centre of the first pixel.
GRID = Affine(2.5, 0, WEST, 0, -2.5, NORTH)
WORLD = f"2.5\n0\n0\n-2.5\n{WEST + 1.25}\n{NORTH - 1.25}\n"
# An orthophoto, and a tile of 100 m.
ORTHO = np.random.default_rng(2).integers(1, 256, (100, 120, 3), dtype=np.uint8)
TILE = ORTHO[:40, :40]


def geotiff(path: Path, pixels: Any = TILE, **profile: Any) -> Path:
    """Write an image, located by its tags unless the profile says otherwise."""
    height, width, count = pixels.shape
    settings = {"crs": UTM, "transform": GRID, "dtype": pixels.dtype, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, **settings
    ) as dataset:
        dataset.write(np.moveaxis(pixels, 2, 0))
    return path
