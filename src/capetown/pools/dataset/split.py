"""Folds for training, validation and test that do not leak into each other.

Tiles that touch share roads, roofs and light, and most pools at an edge, so a block of a map sheet
stays in one fold, or a whole sheet; so do tiles with the same pixels, whatever their names. Folds
are filled to the wanted shares of tiles of each class.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.pools.dataset.drift import TileProfile
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.neighbours import parted_neighbours, place_in_name
from capetown.pools.metrics import MIN_GROUPS_FOR_CI

FOLDS = ("train", "valid", "test")
# Of groups that are tried, where the first leaves a fold with too few of them.
ORDERS = 200
Strategy = Literal["block", "sheet", "random"]


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
            `capetown.pools.dataset.listing.pixel_digest`.
        strategy: ``block`` and ``sheet`` keep the tiles of a block or of a sheet together, and the
            share of each class alike in all folds; ``random`` shuffles tiles regardless of place
            and class, as the earlier solution did. All keep equal images together.
        valid: share of the tiles for choosing epoch, threshold and temperature.
        test: share of the tiles for the final judgement.
        seed: another seed gives other folds.

    Returns:
        One of `FOLDS` a tile.

    Raises:
        CapetownError: if a class has no tile, a fold lacks a class, or one has fewer blocks or
            sheets than a 95 % interval needs.
    """
    for label in CLASSES:
        if label not in {t.label for t in tiles}:
            raise CapetownError(f"no `{label}` tile can be read.")
    keys = [group_of(t, strategy) if strategy != "random" else t.path for t in tiles]
    groups = pd.factorize(np.array(_joined(keys, digests)))[0].tolist()
    shares = np.array([1 - valid - test, valid, test])
    if strategy == "random":
        folds = _shuffled(groups, shares, seed)
    else:
        folds = _stratified(groups, tiles, shares, seed)
    result = [FOLDS[folds[group]] for group in groups]
    _check_classes(tiles, result)
    if strategy != "random":
        _check_groups(groups, result, strategy)
    return result


def group_of(tile: Tile, strategy: Strategy) -> str:
    """Name the group of a tile: its sheet if sheets stay together, else its block.

    Intervals resample these groups. A tile of another form of name is a group of its own.
    """
    if strategy == "sheet":
        return tile.sheet
    named = place_in_name(tile)
    return f"{named['sheet']}_{named['block']}" if named else tile.sheet


def _joined(keys: Sequence[str], digests: Sequence[str]) -> list[str]:
    """The keys that are left when tiles of equal key or digest are joined: the first of each."""
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
    """A fold a group: the largest group first, each to the fold that it leaves least unbalanced.

    The greedy rule of scikit-learn's StratifiedGroupKFold, for folds of unequal size. Imbalance is
    the squared distance from the tiles wanted, over the tiles wanted: all folds fill alike. Where a
    fold gets fewer groups than an interval needs, the most balanced of many other orders is taken.
    """
    counts = np.zeros((max(groups) + 1, len(CLASSES)))
    for group, tile in zip(groups, tiles, strict=True):
        counts[group, CLASSES.index(tile.label)] += 1
    # As shares of the class, so that a rare class weighs as much as a common one.
    counts /= np.maximum(counts.sum(axis=0), 1)
    sizes = np.bincount(groups)
    draws = np.random.default_rng(seed)
    order = draws.permutation(len(counts))
    folds, _ = _filled(order[np.argsort(-sizes[order], kind="stable")], counts, shares)
    if _fewest(folds) >= MIN_GROUPS_FOR_CI:
        return folds
    # The largest groups come first into small folds and fill them: look for another order.
    others = [_filled(draws.permutation(len(counts)), counts, shares) for _ in range(ORDERS)]
    enough = [(far, other) for other, far in others if _fewest(other) >= MIN_GROUPS_FOR_CI]
    return min(enough, key=lambda pair: pair[0])[1] if enough else folds


def _filled(order: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float]:
    """A fold a group, filled in an order, and how far they come out from what was wanted."""
    filled = np.zeros((len(shares), len(CLASSES)))
    folds = np.zeros(len(counts), dtype=int)
    for group in order:
        before = (filled - shares[:, None]) ** 2
        after = (filled + counts[group] - shares[:, None]) ** 2
        folds[group] = np.argmin((after - before).sum(axis=1) / shares)
        filled[folds[group]] += counts[group]
    return folds, float((((filled - shares[:, None]) ** 2).sum(axis=1) / shares).sum())


def _fewest(folds: np.ndarray) -> int:
    """The number of groups of the fold that has the fewest."""
    return int(np.bincount(folds, minlength=len(FOLDS)).min())


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


def _check_groups(groups: Sequence[int], folds: Sequence[str], strategy: Strategy) -> None:
    for name in FOLDS:
        found = len({group for group, fold in zip(groups, folds, strict=True) if fold == name})
        if found < MIN_GROUPS_FOR_CI:
            smaller = " set split.strategy to block," if strategy == "sheet" else ""
            raise CapetownError(
                f"fold {name} has {found} {strategy}s, and a 95 % interval needs "
                f"{MIN_GROUPS_FOR_CI}:{smaller} bring more tiles or enlarge split.valid and "
                "split.test."
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


def tile_table(
    tiles: Sequence[Tile],
    looks: Sequence[TileProfile],
    digests: Sequence[str],
    folds: Sequence[str],
    strategy: Strategy,
) -> pd.DataFrame:
    """Path, label, sheet, group, fold, digest and `Look` of every tile; all sequences as long.

    Groups that share pixels are one, so that no tile is judged by a model that learned its twin.
    """
    groups = _joined([group_of(tile, strategy) for tile in tiles], digests)
    divided = pd.DataFrame(tiles).assign(group=groups, fold=folds, digest=digests)
    return pd.concat([divided, pd.DataFrame(looks)], axis=1)


def duplicate_table(tiles: Sequence[Tile], digests: Sequence[str]) -> pd.DataFrame:
    """The `duplicates` with the columns path, same_as and label_noise."""
    return pd.DataFrame(
        [(tile.path, first.path, noise) for tile, first, noise in duplicates(tiles, digests)],
        columns=["path", "same_as", "label_noise"],
    )


def summary(
    tiles: Sequence[Tile], folds: Sequence[str], strategy: Strategy
) -> dict[str, dict[str, int]]:
    """Tiles of each class, number of sheets and of groups, and size of the largest, by fold."""
    found = {}
    for name in FOLDS:
        chosen = [tile for tile, fold in zip(tiles, folds, strict=True) if fold == name]
        labels = Counter(tile.label for tile in chosen)
        groups = Counter(group_of(tile, strategy) for tile in chosen)
        found[name] = {
            "yes": labels["yes"],
            "no": labels["no"],
            "sheets": len({tile.sheet for tile in chosen}),
            "groups": len(groups),
            "largest_group": max(groups.values(), default=0),
        }
    return found


def counts(
    tiles: Sequence[Tile],
    folds: Sequence[str],
    strategy: Strategy,
    *,
    corrected: int,
    rejected: int,
    twice: pd.DataFrame,
    unlike: tuple[int, str],
) -> dict[str, Any]:
    """The numbers that are worth comparing between two splits.

    Args:
        tiles: those that can be read.
        folds: of each.
        strategy: what stayed together.
        corrected: number of tiles whose label people changed.
        rejected: number of tiles that cannot be read.
        twice: the `duplicate_table`.
        unlike: number and names of those that differ from most.
    """
    return {
        "tiles": len(tiles),
        "corrected": corrected,
        "rejected": rejected,
        "duplicates": len(twice),
        "label_noise": int(twice["label_noise"].sum()),
        "unlike": unlike[0],
        "unlike_first": unlike[1],
        "folds": summary(tiles, folds, strategy),
    }


def remarks(
    tiles: Sequence[Tile], folds: Sequence[str], *, strategy: Strategy, valid: float, test: float
) -> list[str]:
    """Lines that say how near folds came to what was wanted, and what leaks.

    Args:
        tiles: the tiles.
        folds: of each.
        strategy: what stayed together.
        valid: share of the tiles that was wanted.
        test: likewise.
    """
    unit = "sheet" if strategy == "sheet" else "block"
    wanted = {"train": 1 - valid - test, "valid": valid, "test": test}
    lines = []
    for name, fold in summary(tiles, folds, strategy).items():
        count = fold["yes"] + fold["no"]
        lines.append(
            f"{name}: {count} tiles, {count / len(tiles):.1%} (wanted: {wanted[name]:.1%}), "
            f"{fold['yes'] / count:.1%} with a pool; {fold['groups']} {unit}s of {fold['sheets']} "
            f"sheets, at most {fold['largest_group']} tiles a {unit}"
        )
    touching, parted = parted_neighbours(tiles, folds)
    lines.append(f"{touching} pairs of tiles touch; {parted} of them are in two folds")
    if odd := [t.path for t in tiles if not place_in_name(t)]:
        lines.append(
            f"{len(odd)} tiles, such as {odd[0]}, are not named SHEET_BLOCK_CELL: each counts as a "
            "group of its own, though it may be another's neighbour"
        )
    return lines
