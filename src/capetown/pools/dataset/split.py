"""Folds for training, validation and test without leakage.

Tiles that touch share roads, roofs, light and the pools that their edge cuts. So all tiles of a
group go into one fold; see `groups`. Tiles with equal pixels also do.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.params import GroupsSource, Split
from capetown.pools.dataset.drift import TileProfile
from capetown.pools.dataset.groups import Grouping
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.locations import Locations
from capetown.pools.dataset.name_check import Verdict
from capetown.pools.dataset.neighbours import find_near
from capetown.pools.metrics import MIN_GROUPS_FOR_CI

FOLDS = ("train", "valid", "test")
# Random orders of groups to try if the first one leaves a fold with too few groups.
ORDERS = 200
Strategy = Literal["block", "sheet", "random"]


def split_tiles(
    tiles: Sequence[Tile], digests: Sequence[str], settings: Split, seed: int
) -> list[str]:
    """Assign every tile to a fold.

    The strategies ``block`` and ``sheet`` keep the tiles of a group in one fold, and give all folds
    similar shares of each class. ``random`` shuffles tiles. All keep equal images in one fold.

    Args:
        tiles: the tiles to divide, with their groups.
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
    keys = merged([tile.path if strategy == "random" else tile.group for tile in tiles], digests)
    groups = pd.factorize(np.array(keys))[0].tolist()
    shares = _shares(settings)
    if strategy == "random":
        folds = _shuffled(groups, shares, seed)
    else:
        folds = _stratified(groups, tiles, shares, seed)
    result = [FOLDS[folds[group]] for group in groups]
    try:
        _check_classes(tiles, result)
        if strategy != "random":
            _check_groups(groups, result, strategy)
    except CapetownError as error:
        if large := large_group(keys):
            fix = f"divide that group, or {error.fix}"
            raise CapetownError(f"{error.what}; {large}", fix=fix) from error
        raise
    return result


def large_group(keys: Sequence[str]) -> str:
    """The name and size of a group with over half of the tiles; empty if there is none."""
    [(name, count)] = Counter(keys).most_common(1)
    return f"group {name} has {count} of {len(keys)} tiles" if 2 * count > len(keys) else ""


def _shares(settings: Split) -> np.ndarray:
    return np.array([1 - settings.valid - settings.test, settings.valid, settings.test])


def merged(keys: Sequence[str], digests: Sequence[str]) -> list[str]:
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


def near_test(
    tiles: Sequence[Tile], folds: Sequence[str], locations: Locations, gap: int
) -> list[int]:
    """The training tiles nearer than `gap` metres to a tile of the test fold, by number.

    Tiles of the fold `valid` stay: they only choose a few numbers, such as the threshold, and a
    smaller fold would choose them worse.

    Raises:
        CapetownError: not all tiles are located, or the others in `train` lack a class.
    """
    if not gap:
        return []
    outlines = [place for place in locations.outlines if place]
    if lacking := len(tiles) - len(outlines):
        first = next(t.path for t, o in zip(tiles, locations.outlines, strict=True) if not o)
        raise CapetownError(
            f"{lacking} of {len(tiles)} tiles have no location, such as {first}",
            where="split.gap", fix="set it to 0, or georeference the tiles",
        )  # fmt: skip
    tests = [number for number, fold in enumerate(folds) if fold == "test"]
    near = find_near(outlines, tests, gap)
    dropped = sorted(number for number in near if folds[number] == "train")
    left = set(range(len(tiles))) - set(dropped)
    try:
        _check_classes([tiles[n] for n in left], [folds[n] for n in left])
    except CapetownError as error:
        raise CapetownError(
            f"{error.what}: {len(dropped)} tiles are nearer to the test fold than {gap} m",
            where="split.gap", fix="set a smaller one",
        ) from error  # fmt: skip
    return dropped


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
                f"fold {name} has {found} groups of tiles, and a 95 % interval needs at least "
                f"{MIN_GROUPS_FOR_CI}",
                fix=f"{smaller}make smaller groups (see `split` in params.yaml), add tiles, or "
                "enlarge split.valid and split.test",
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
    folds: Sequence[str], source: GroupsSource, reduced_sides: Mapping[str, int],
    location_sources: Iterable[str], names: Verdict,
) -> pd.DataFrame:  # fmt: skip
    """A row per tile: path, label, sheet, group, fold, digest, profile and `reduced_to`.

    Groups that share an image are merged: an interval must not resample the two copies separately.
    `groups_source` is the source of the groups, the same in each row.
    `reduced_to` is the side in pixels that the tile was downsampled to, as `reduced_sides` gives it
    by path; 0 for an original. `location_source` is as in `Locations`, and `names` the verdict of
    `check_names`, the same in each row.
    """
    groups = merged([tile.group for tile in tiles], digests)
    assigned = pd.DataFrame(tiles).assign(group=groups, fold=folds, digest=digests)
    sides = [reduced_sides.get(tile.path, 0) for tile in tiles]
    return pd.concat([assigned, pd.DataFrame(profiles)], axis=1).assign(
        reduced_to=sides,
        groups_source=source,
        location_source=list(location_sources),
        names=names,
    )


def summary(tiles: Sequence[Tile], folds: Sequence[str]) -> dict[str, dict[str, int]]:
    """Numbers of tiles by class, of sheets and of groups, and the largest group, by fold."""
    found = {}
    for name in FOLDS:
        chosen = [tile for tile, fold in zip(tiles, folds, strict=True) if fold == name]
        groups = Counter(tile.group for tile in chosen)
        found[name] = {
            **{label: sum(tile.label == label for tile in chosen) for label in reversed(CLASSES)},
            "sheets": len({tile.sheet for tile in chosen}),
            "groups": len(groups),
            "largest_group": max(groups.values(), default=0),
        }
    return found


def log_lines(
    grouping: Grouping, folds: Sequence[str], settings: Split, touching: tuple[int, int] | None
) -> list[str]:
    """Lines for the log: actual and target size of each fold, and what leaks between folds.

    `touching` is the result of `count_neighbours`.
    """
    tiles, source = grouping.tiles, grouping.source
    by_sheet = settings.strategy == "sheet"
    unit = ("sheet" if by_sheet else "block") if source == "names" else "group"
    lines = [] if source == "none" else [f"groups of tiles come from: {source}"]
    for (name, fold), target in zip(summary(tiles, folds).items(), _shares(settings), strict=True):
        count = fold["yes"] + fold["no"]
        lines.append(
            f"{name}: {count} tiles, {count / len(tiles):.1%} (target: {target:.1%}), "
            f"{fold['yes'] / count:.1%} with a pool; {unit}s: {fold['groups']}, sheets: "
            f"{fold['sheets']}, tiles in the largest {unit}: {fold['largest_group']}"
        )
    if touching:
        lines.append("pairs of tiles that touch: {}, {} of them in two folds".format(*touching))
    else:
        lines.append("pairs of tiles that touch: unknown, since not all tiles have a location")
    return lines
