"""Divide the readable tiles into folds that share no block; list the unreadable ones."""

import json
import logging
from pathlib import Path

import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.pools.splits import duplicates, group_of, remarks, split_tiles, summary
from capetown.pools.tiles.reading import digest_tiles, find_tiles
from stages import kept_logs, put_in_place, run, step

RAW, OUT, METRICS = Path("raw"), Path("splits"), Path("metrics/split.json")
INVENTORY = RAW / "inventory.csv"
REJECTED = kept_logs() / "split-rejected.csv"
log = logging.getLogger("capetown")


def reduced(inventory: Path) -> dict[str, str]:
    """The sha256 of each tile that is kept reduced, by path; none without an inventory."""
    if not inventory.exists():
        return {}
    rows = pd.read_csv(inventory, dtype=str, keep_default_na=False)
    rows = rows[rows["kept_sha256"] != rows["sha256"]]
    return dict(zip(rows["key"], rows["kept_sha256"], strict=True))


def main() -> None:
    """Write splits/ and metrics/split.json."""
    params = load_params(Path("params.yaml"))
    if not (RAW / TILES_FOLDER).exists():
        log.warning("no tiles in %s/: there is nothing to train on or to judge", RAW)
        with put_in_place(OUT, METRICS) as made:
            (made / OUT).mkdir()
            (made / OUT / "tiles.csv").write_text("path,label,sheet,group,fold,digest\n")
            (made / METRICS).write_text("{}\n")
        return
    found = find_tiles(RAW / TILES_FOLDER, RAW)
    # `download` has read the tiles that it reduced: equal files of them are equal pictures.
    by_sha256 = reduced(INVENTORY)
    with step("read the tiles that are as they came"):
        readable, reasons = digest_tiles(
            [tile for tile in found if tile.path not in by_sha256], RAW
        )
    readable = {
        tile: digest for tile in found if (digest := by_sha256.get(tile.path) or readable.get(tile))
    }
    tiles, digests = list(readable), list(readable.values())
    rejected = pd.DataFrame(
        [(tile.path, why) for tile, why in reasons.items()], columns=["path", "reason"]
    )
    for path, why in rejected.itertuples(index=False):
        log.warning("left out: %s: %s", path, why)
    how = params.split
    try:
        folds = split_tiles(tiles, digests, seed=params.seed, **how.model_dump())
    except CapetownError as error:
        if rejected.empty:
            raise
        rejected.to_csv(REJECTED, index=False)
        raise CapetownError(
            f"{error} {len(rejected)} tiles are left out: {REJECTED} says why."
        ) from error
    twice = pd.DataFrame(
        [(tile.path, first.path, noise) for tile, first, noise in duplicates(tiles, digests)],
        columns=["path", "same_as", "label_noise"],
    )
    for path, first, noise in twice.itertuples(index=False):
        if noise:
            log.warning("label noise: %s has the pixels of %s", path, first)
    counts = {
        "tiles": len(tiles),
        "rejected": len(rejected),
        "duplicates": len(twice),
        "label_noise": int(twice["label_noise"].sum()),
        "folds": summary(tiles, folds, how.strategy),
    }
    for line in remarks(tiles, folds, **how.model_dump()):
        log.info("%s", line)
    with put_in_place(OUT, METRICS) as made:
        (made / OUT).mkdir()
        groups = [group_of(tile, how.strategy) for tile in tiles]
        divided = pd.DataFrame(tiles).assign(group=groups, fold=folds, digest=digests)
        divided.to_csv(made / OUT / "tiles.csv", index=False)
        rejected.to_csv(made / OUT / "rejected.csv", index=False)
        twice.to_csv(made / OUT / "duplicates.csv", index=False)
        (made / METRICS).write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
