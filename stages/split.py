"""Divide the readable tiles into folds that share no map sheet; list the unreadable ones."""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from capetown.params import load_params
from capetown.splits import duplicates, split_tiles, summary
from capetown.tiles import UnreadableTileError, find_tiles, pixel_digest, read_tile
from stages import run, step

log = logging.getLogger("capetown")
RAW = Path("raw")


def look(path: str) -> tuple[str, str]:
    """The digest of a tile's pixels, or nothing and why it cannot be read."""
    try:
        return pixel_digest(read_tile(RAW / path)), ""
    except UnreadableTileError as error:
        return "", str(error)


def main() -> None:
    """Write splits/ and metrics/split.json."""
    params = load_params(Path("params.yaml"))
    found = find_tiles(RAW / "images" / "swimming-pool", RAW)
    with step("read every tile"), ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = dict(zip(found, pool.map(look, [t.path for t in found]), strict=True))
    rejected = [(tile.path, reason) for tile, (_, reason) in looks.items() if reason]
    tiles = [tile for tile, (digest, _) in looks.items() if digest]
    digests = [digest for digest, _ in looks.values() if digest]
    with step("split"):
        folds = split_tiles(
            tiles,
            digests,
            strategy=params.split.strategy,
            valid=params.split.valid,
            test=params.split.test,
            seed=params.seed,
        )
    same = duplicates(tiles, digests)
    for path, reason in rejected:
        log.warning("left out: %s: %s", path, reason)
    for tile, first, _ in filter(lambda row: row[2], same):
        log.warning("label noise: %s has the pixels of %s", tile.path, first.path)

    Path("splits").mkdir(exist_ok=True)
    table = pd.DataFrame(tiles).assign(fold=folds)
    table.to_csv("splits/tiles.csv", index=False)
    pd.DataFrame(rejected, columns=["path", "reason"]).to_csv("splits/rejected.csv", index=False)
    rows = [(tile.path, first.path, noise) for tile, first, noise in same]
    columns = ["path", "same_as", "label_noise"]
    pd.DataFrame(rows, columns=columns).to_csv("splits/duplicates.csv", index=False)
    counts = {
        "tiles": len(tiles),
        "rejected": len(rejected),
        "duplicates": len(same),
        "label_noise": sum(noise for *_, noise in same),
        "folds": summary(tiles, folds),
    }
    Path("metrics/split.json").write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
