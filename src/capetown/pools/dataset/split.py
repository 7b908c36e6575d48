"""Folds for training, validation and test without leakage.

Tiles that touch share roads, roofs, light and the pools that their edge cuts. So all tiles of a
block, or of a whole map sheet, go into one fold. Tiles with equal pixels also do.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.params import Split
from capetown.pools.dataset.drift import TileProfile
from capetown.pools.dataset.listing import Tile, match_name
from capetown.pools.dataset.neighbours import count_neighbours
from capetown.pools.metrics import MIN_GROUPS_FOR_CI

FOLDS = ("train", "valid", "test")
# Random orders of groups to try if the first one leaves a fold with too few groups.
ORDERS = 200
Strategy = Literal["block", "sheet", "random"]


def split_tiles(
    tiles: Sequence[Tile], digests: Sequence[str], settings: Split, seed: int
) -> list[str]:
    """Assign every tile to a fold.

    The strategies ``block`` and ``sheet`` keep the tiles of a block or sheet in one fold, and give
    all folds similar shares of each class. ``random`` shuffles tiles. All keep equal images in one
    fold.

    Args:
        tiles: the tiles to divide.
        digests: the `pixel_digest` of each.
        settings: the strategy, and the folds' shares of the tiles.
        seed: determines the folds.

    Returns:
        One of `FOLDS` per tile.

    Raises:
        CapetownError: a class has no tile, a fold lacks a class, or a fold has fewer groups than a
            95 % confidence interval needs.
    """
    strategy = settings.strategy
    for label in CLASSES:
        if label not in {t.label for t in tiles}:
            raise CapetownError(f"no `{label}` tile can be read")
    keys = [group_of(t, strategy) if strategy != "random" else t.path for t in tiles]
    groups = pd.factorize(np.array(_merged(keys, digests)))[0].tolist()
    shares = _shares(settings)
    if strategy == "random":
        folds = _shuffled(groups, shares, seed)
    else:
        folds = _stratified(groups, tiles, shares, seed)
    result = [FOLDS[folds[group]] for group in groups]
    _check_classes(tiles, result)
    if strategy != "random":
        _check_groups(groups, result, strategy)
    return result


def _shares(settings: Split) -> np.ndarray:
    return np.array([1 - settings.valid - settings.test, settings.valid, settings.test])


def group_of(tile: Tile, strategy: Strategy) -> str:
    """The group of a tile: its sheet for ``sheet``, else its block.

    Confidence intervals resample groups. A tile with another form of name is a group of its own.
    """
    if strategy == "sheet":
        return tile.sheet
    name = match_name(tile.path)
    return f"{name['sheet']}_{name['block']}" if name else tile.sheet


def _merged(keys: Sequence[str], digests: Sequence[str]) -> list[str]:
    """The group of each tile when tiles with equal key or digest share one: its first key."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for key, digest in zip(keys, digests, strict=True):
        parent[root(f"key {key}")] = root(f"pixels {digest}")
    roots = [root(f"key {key}") for key in keys]
    first = dict(zip(reversed(roots), reversed(keys), strict=True))
    return [first[name] for name in roots]


def _stratified(
    groups: Sequence[int], tiles: Sequence[Tile], shares: np.ndarray, seed: int
) -> np.ndarray:
    """The fold of each group: the largest group first, each to the fold that needs it most.

    This is the greedy rule of scikit-learn's StratifiedGroupKFold, for folds of unequal size. The
    imbalance is the squared difference between actual and target share, over the target share. If a
    fold gets too few groups for an interval, the most balanced of `ORDERS` random orders is taken.
    """
    counts = np.zeros((max(groups) + 1, len(CLASSES)))
    for group, tile in zip(groups, tiles, strict=True):
        counts[group, CLASSES.index(tile.label)] += 1
    # Shares of the class, so that a rare class counts as much as a common one.
    counts /= np.maximum(counts.sum(axis=0), 1)
    sizes = np.bincount(groups)
    draws = np.random.default_rng(seed)
    order = draws.permutation(len(counts))
    folds, _ = _fill_folds(order[np.argsort(-sizes[order], kind="stable")], counts, shares)
    if _fewest_groups(folds) >= MIN_GROUPS_FOR_CI:
        return folds
    # The largest groups have filled a small fold: try other orders.
    others = [_fill_folds(draws.permutation(len(counts)), counts, shares) for _ in range(ORDERS)]
    enough = [(far, other) for other, far in others if _fewest_groups(other) >= MIN_GROUPS_FOR_CI]
    return min(enough, key=lambda pair: pair[0])[1] if enough else folds


def _fill_folds(
    order: np.ndarray, counts: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, float]:
    """The fold of each group, assigned in an order, and the imbalance of the folds."""
    filled = np.zeros((len(shares), len(CLASSES)))
    folds = np.zeros(len(counts), dtype=int)
    for group in order:
        before = (filled - shares[:, None]) ** 2
        after = (filled + counts[group] - shares[:, None]) ** 2
        folds[group] = np.argmin((after - before).sum(axis=1) / shares)
        filled[folds[group]] += counts[group]
    return folds, float((((filled - shares[:, None]) ** 2).sum(axis=1) / shares).sum())


def _fewest_groups(folds: np.ndarray) -> int:
    """The number of groups in the fold with the fewest groups."""
    return int(np.bincount(folds, minlength=len(FOLDS)).min())


def _shuffled(groups: Sequence[int], shares: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each group: test, then valid, then train, filled in random order."""
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
                    f"fold {fold} has no `{label}` tile",
                    fix="add tiles, change the seed, or enlarge split.valid and split.test",
                )


def _check_groups(groups: Sequence[int], folds: Sequence[str], strategy: Strategy) -> None:
    for name in FOLDS:
        found = len({group for group, fold in zip(groups, folds, strict=True) if fold == name})
        if found < MIN_GROUPS_FOR_CI:
            smaller = "set split.strategy to block, " if strategy == "sheet" else ""
            raise CapetownError(
                f"fold {name} has {found} {strategy}s, and a 95 % interval needs at least "
                f"{MIN_GROUPS_FOR_CI}",
                fix=f"{smaller}add tiles, or enlarge split.valid and split.test",
            )


def duplicate_table(tiles: Sequence[Tile], digests: Sequence[str]) -> pd.DataFrame:
    """Tiles with the same pixels as an earlier one: path, same_as and label_noise.

    `label_noise` is True if tiles with those pixels have both labels.
    """
    same: dict[str, list[Tile]] = defaultdict(list)
    for tile, digest in sorted(zip(tiles, digests, strict=True)):
        same[digest].append(tile)
    rows = [
        (tile.path, first.path, len({t.label for t in (first, *rest)}) > 1)
        for first, *rest in same.values()
        for tile in rest
    ]
    table = pd.DataFrame(sorted(rows), columns=["path", "same_as", "label_noise"])
    return table.astype({"label_noise": bool})


def tile_table(
    tiles: Sequence[Tile], profiles: Sequence[TileProfile], digests: Sequence[str],
    folds: Sequence[str], strategy: Strategy, reduced_sides: Mapping[str, int],
) -> pd.DataFrame:  # fmt: skip
    """A row per tile: path, label, sheet, group, fold, digest, profile and `reduced_to`.

    Groups that share an image are merged: an interval must not resample the two copies separately.
    `reduced_to` is the side in pixels that the tile was downsampled to, as `reduced_sides` gives it
    by path; 0 for an original.
    """
    groups = _merged([group_of(tile, strategy) for tile in tiles], digests)
    assigned = pd.DataFrame(tiles).assign(group=groups, fold=folds, digest=digests)
    sides = [reduced_sides.get(tile.path, 0) for tile in tiles]
    return pd.concat([assigned, pd.DataFrame(profiles)], axis=1).assign(reduced_to=sides)


def summary(
    tiles: Sequence[Tile], folds: Sequence[str], strategy: Strategy
) -> dict[str, dict[str, int]]:
    """Numbers of tiles by class, of sheets and of groups, and the largest group, by fold."""
    found = {}
    for name in FOLDS:
        chosen = [tile for tile, fold in zip(tiles, folds, strict=True) if fold == name]
        groups = Counter(group_of(tile, strategy) for tile in chosen)
        found[name] = {
            **{label: sum(tile.label == label for tile in chosen) for label in reversed(CLASSES)},
            "sheets": len({tile.sheet for tile in chosen}),
            "groups": len(groups),
            "largest_group": max(groups.values(), default=0),
        }
    return found


def log_lines(tiles: Sequence[Tile], folds: Sequence[str], settings: Split) -> list[str]:
    """Lines for the log: actual and target size of each fold, and what leaks between folds."""
    unit = "sheet" if settings.strategy == "sheet" else "block"
    sizes = summary(tiles, folds, settings.strategy)
    lines = []
    for (name, fold), target in zip(sizes.items(), _shares(settings), strict=True):
        count = fold["yes"] + fold["no"]
        lines.append(
            f"{name}: {count} tiles, {count / len(tiles):.1%} (target: {target:.1%}), "
            f"{fold['yes'] / count:.1%} with a pool; {unit}s: {fold['groups']}, sheets: "
            f"{fold['sheets']}, tiles in the largest {unit}: {fold['largest_group']}"
        )
    touching, divided = count_neighbours(tiles, folds)
    lines.append(f"pairs of tiles that touch: {touching}, {divided} of them in two folds")
    if unnamed := [t.path for t in tiles if not match_name(t.path)]:
        lines.append(
            f"{len(unnamed)} tiles are not named SHEET_BLOCK_CELL, such as {unnamed[0]}: each is a "
            "group of its own, so neighbours may be in two folds"
        )
    return lines
