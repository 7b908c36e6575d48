"""Folds for training, validation and test that do not leak into each other.

Tiles of one map sheet share roads, roofs and light, so a sheet stays in one fold; so do tiles with
the same pixels, whatever their names. Folds are filled to the wanted shares of tiles of each class.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.pools.tiles.reading import Tile

FOLDS = ("train", "valid", "test")
Strategy = Literal["sheet", "random"]


def split_tiles(
    tiles: Sequence[Tile],
    digests: Sequence[str],
    *,
    strategy: Strategy,
    valid: float,
    test: float,
    seed: int,
) -> list[str]:
    """Put every tile in a fold.

    Args:
        tiles: the tiles to divide.
        digests: one a tile, equal for tiles with equal pixels; see
            `capetown.pools.tiles.reading.pixel_digest`.
        strategy: ``sheet`` keeps the tiles of a sheet together and the share of each class alike
            in all folds; ``random`` shuffles tiles regardless of sheet and class, as the earlier
            solution did. Both keep equal images together.
        valid: share of the tiles for choosing epoch, threshold and temperature.
        test: share of the tiles for the final judgement.
        seed: another seed gives other folds.

    Returns:
        One of `FOLDS` a tile.

    Raises:
        CapetownError: if a class has no tile, or a fold lacks a class.
    """
    for label in CLASSES:
        if label not in {t.label for t in tiles}:
            raise CapetownError(f"no `{label}` tile can be read.")
    keys = [t.sheet if strategy == "sheet" else t.path for t in tiles]
    groups = _joined_groups(keys, digests)
    shares = np.array([1 - valid - test, valid, test])
    if strategy == "sheet":
        folds = _stratified(groups, tiles, shares, seed)
    else:
        folds = _shuffled(groups, shares, seed)
    result = [FOLDS[folds[group]] for group in groups]
    _check_classes(tiles, result)
    return result


def _joined_groups(keys: Sequence[str], digests: Sequence[str]) -> list[int]:
    """Number the groups that are left when tiles of equal key or equal digest are joined."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for key, digest in zip(keys, digests, strict=True):
        parent[root(f"key {key}")] = root(f"pixels {digest}")
    roots = [root(f"key {key}") for key in keys]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(roots))}
    return [numbers[name] for name in roots]


def _stratified(
    groups: Sequence[int], tiles: Sequence[Tile], shares: np.ndarray, seed: int
) -> np.ndarray:
    """A fold a group: the largest group first, each to the fold that it leaves least unbalanced.

    The greedy rule of scikit-learn's StratifiedGroupKFold, for folds of unequal size. Imbalance is
    the squared distance from the tiles wanted, over the tiles wanted: all folds fill alike.
    """
    counts = np.zeros((max(groups) + 1, len(CLASSES)))
    for group, tile in zip(groups, tiles, strict=True):
        counts[group, CLASSES.index(tile.label)] += 1
    # As shares of the class, so that a rare class weighs as much as a common one.
    counts /= np.maximum(counts.sum(axis=0), 1)
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(counts))
    filled = np.zeros((len(shares), len(CLASSES)))
    folds = np.zeros(len(counts), dtype=int)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        before = (filled - shares[:, None]) ** 2
        after = (filled + counts[group] - shares[:, None]) ** 2
        folds[group] = np.argmin((after - before).sum(axis=1) / shares)
        filled[folds[group]] += counts[group]
    return folds


def _shuffled(groups: Sequence[int], shares: np.ndarray, seed: int) -> np.ndarray:
    """A fold a group: test, then valid, then train, filled from a random order."""
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = (np.cumsum(sizes[order]) - sizes[order]) / len(groups)
    folds = np.zeros(len(sizes), dtype=int)
    folds[order[before < shares[1] + shares[2]]] = FOLDS.index("valid")
    folds[order[before < shares[2]]] = FOLDS.index("test")
    return folds


def _check_classes(tiles: Sequence[Tile], folds: Sequence[str]) -> None:
    found = {(fold, tile.label) for fold, tile in zip(folds, tiles, strict=True)}
    for fold in FOLDS:
        for label in CLASSES:
            if (fold, label) not in found:
                raise CapetownError(
                    f"fold {fold} has no `{label}` tile: more tiles, more sheets, another seed or "
                    "larger split.valid and split.test are needed."
                )


def duplicates(tiles: Sequence[Tile], digests: Sequence[str]) -> list[tuple[Tile, Tile, bool]]:
    """Tiles with the same pixels as an earlier one.

    Returns:
        The later tile, the first tile with those pixels, and whether their set carries both labels
        (label noise: no model can be right about both).
    """
    same: dict[str, list[Tile]] = defaultdict(list)
    for tile, digest in sorted(zip(tiles, digests, strict=True)):
        same[digest].append(tile)
    return sorted(
        (tile, first, len({t.label for t in (first, *rest)}) > 1)
        for first, *rest in same.values()
        for tile in rest
    )


def summary(tiles: Sequence[Tile], folds: Sequence[str]) -> dict[str, dict[str, int]]:
    """Tiles of each class and number of sheets, by fold."""
    counts = Counter((fold, tile.label) for tile, fold in zip(tiles, folds, strict=True))
    sheets = {
        fold: {t.sheet for t, f in zip(tiles, folds, strict=True) if f == fold} for fold in FOLDS
    }
    return {
        fold: {
            "yes": counts[fold, "yes"],
            "no": counts[fold, "no"],
            "sheets": len(sheets[fold]),
        }
        for fold in FOLDS
    }
