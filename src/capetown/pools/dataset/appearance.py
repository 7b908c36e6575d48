"""Colour and texture of tiles: do they look like the tiles that a model was trained on?

A network is trained to ignore brightness and colour, so its own features show such changes badly.
Thirteen numbers of the pixels show them; see `benchmarks/README.md` for the measurements.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2

from capetown.imagery.tiff import Pixels
from capetown.params import Section

Floats = npt.NDArray[np.float64]
# Weights of red, green and blue in grey: ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Clusters of training tiles, and the weight of the identity in their covariance. 20 to 60 clusters
# and weights of 0.1 to 0.6 gave nearly the same results.
CLUSTERS, SHRINKAGE = 30, 0.3
# Share of unseen groups' tiles within the limit, and the number of parts they are left out in.
WITHIN, PARTS = 0.97, 15
# Fewest tiles and groups for a limit, and fewest tiles for a statement about all of them.
MIN_TILES, MIN_GROUPS, MIN_SET = 30, 3, 10


class Appearance(Section):
    """How the tiles of a model look, from `fit_appearance`.

    Attributes:
        mean: of the tiles' `describe`, shape (13,).
        whitening: a matrix that removes scale and correlation, shape (13, 13).
        centres: of clusters of the tiles, shape (clusters, 13).
        limit: the distance to the nearest centre that few tiles of unseen groups exceed.
    """

    mean: list[float]
    whitening: list[list[float]]
    centres: list[list[float]]
    limit: float

    def distances(self, described: Floats) -> Floats:
        """Distances of tiles to the nearest centre, shape (tiles,); above 1 they look different.

        The unit is the limit.
        """
        white = (described - np.array(self.mean)) @ np.array(self.whitening)
        apart = white[:, None] - np.array(self.centres)
        return np.asarray(np.sqrt((apart**2).sum(axis=-1)).min(axis=1) / self.limit)


def describe(images: Sequence[Pixels]) -> Floats:
    """Colour and texture of images of one size: shape (images, 13).

    An image is uint8, shape (height, width, 3). The numbers are logarithms of the bands' means and
    standard deviations, of the deviations of red minus green and green minus blue, and of grey's
    mean slope and curvature; and Fisher's z of the correlations of the bands.
    """
    return np.array([_describe(pixels) for pixels in images]).reshape(-1, 13)


def _describe(pixels: Pixels) -> Floats:
    bands = pixels.reshape(-1, 3).astype(np.float32)
    covariance = np.cov(bands.T)
    red, green, blue = variances = np.diag(covariance)
    of_two = covariance[[0, 0, 1], [1, 2, 2]]
    differences = np.array([red + green - 2 * of_two[0], green + blue - 2 * of_two[2]])
    grey = pixels @ LUMA
    across, down = np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    slope, curvature = np.sqrt(np.mean(across**2 + down**2)), np.abs(4 * middle - around).mean()
    deviations = np.sqrt(np.maximum([*variances, *differences], 0))
    # The constants keep flat images finite.
    amounts = np.log(np.array([*bands.mean(axis=0), *deviations, slope, curvature]) + 4)
    scale = np.sqrt(variances + 0.25)
    correlations = of_two / (scale[[0, 0, 1]] * scale[[1, 2, 2]])
    return np.concatenate([amounts, np.arctanh(np.clip(correlations, -0.999, 0.999))])


def look_different(images: Sequence[Pixels], usual: Appearance | None) -> npt.NDArray[np.bool_]:
    """Which images differ from the usual ones, shape (images,); none if these are unknown."""
    if usual is None:
        return np.zeros(len(images), dtype=bool)
    return np.asarray(usual.distances(describe(images)) > 1)


def is_unlike(differing: int, tiles: int) -> bool:
    """Whether tiles as a whole differ: at least `MIN_SET`, and more than half of them do."""
    return tiles >= MIN_SET and 2 * differing > tiles


def fit_appearance(described: Floats, groups: npt.NDArray[np.str_]) -> Appearance | None:
    """Fit an `Appearance` to training tiles; None for few tiles or groups.

    Each group is left out in turn, or several at once. The limit is the distance within which
    `WITHIN` of the tiles left out lie, so that it suits tiles of unseen groups.

    Args:
        described: from `describe`, shape (tiles, 13).
        groups: of the tiles, such as map sheets, shape (tiles,).
    """
    if (left_out := distances_left_out(described, groups)) is None:
        return None
    return _clusters(described).model_copy(
        update={"limit": round(float(np.quantile(left_out, WITHIN)), 4)}
    )


def distances_left_out(described: Floats, groups: npt.NDArray[np.str_]) -> Floats | None:
    """The distance of each tile from the tiles of other groups; None for few tiles or groups."""
    names = np.unique(groups)
    if len(described) < MIN_TILES or len(names) < MIN_GROUPS:
        return None
    distances = np.empty(len(described))
    shuffled = np.random.default_rng(0).permutation(names)
    for part in np.array_split(shuffled, min(len(names), PARTS)):
        here = np.isin(groups, part)
        distances[here] = _clusters(described[~here]).distances(described[here])
    return distances


def _clusters(described: Floats) -> Appearance:
    """Clusters of whitened tiles by k-means; the limit is 1."""
    mean, deviation = described.mean(axis=0), described.std(axis=0) + 1e-6
    correlation = np.cov(((described - mean) / deviation).T)
    mixed = (1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(len(mean))
    whitening = np.linalg.cholesky(np.linalg.inv(mixed)) / deviation[:, None]
    white = (described - mean) @ whitening
    count = min(CLUSTERS, len(white) // 2)
    centres, _ = kmeans2(white, count, minit="++", rng=np.random.default_rng(0))
    return Appearance(
        mean=mean.round(4).tolist(),
        whitening=whitening.round(4).tolist(),
        centres=centres.round(4).tolist(),
        limit=1.0,
    )
