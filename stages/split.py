"""Divide the readable tiles into folds that share no map sheet; list the unreadable ones."""

import json
import logging
from pathlib import Path

import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.pools.splits import duplicates, split_tiles, summary
from capetown.pools.tiles.reading import find_tiles, look_at_tiles
from capetown.pools.tiles.unlike import count_unlike, difference, usual
from stages import run, step

RAW, OUT, METRICS = Path("raw"), Path("splits"), Path("metrics/split.json")
REJECTED = Path("logs/split-rejected.csv")
log = logging.getLogger("capetown")


def main() -> None:
    """Write splits/ and metrics/split.json."""
    params = load_params(Path("params.yaml"))
    found = find_tiles(RAW / TILES_FOLDER, RAW)
    with step("read every tile"):
        readable, reasons = look_at_tiles(found, RAW, params.tiles)
    tiles, digests = list(readable), [digest for digest, _ in readable.values()]
    looks = [look for _, look in readable.values()]
    rejected = pd.DataFrame(
        [(tile.path, why) for tile, why in reasons.items()], columns=["path", "reason"]
    )
    for path, why in rejected.itertuples(index=False):
        log.warning("left out: %s: %s", path, why)
    how, seed = params.split, params.seed
    try:
        folds = split_tiles(
            tiles, digests, strategy=how.strategy, valid=how.valid, test=how.test, seed=seed
        )
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
    most = usual(looks)
    unlike = {t.path: difference(look, most) for t, look in zip(tiles, looks, strict=True)}
    count, first = count_unlike(unlike)
    if count:
        log.warning("%d tiles are unlike the others, such as %s", count, first)
    OUT.mkdir(exist_ok=True)
    divided = pd.DataFrame(tiles).assign(fold=folds, **pd.DataFrame(looks))
    divided.to_csv(OUT / "tiles.csv", index=False)
    rejected.to_csv(OUT / "rejected.csv", index=False)
    twice.to_csv(OUT / "duplicates.csv", index=False)
    counts = {
        "tiles": len(tiles),
        "rejected": len(rejected),
        "duplicates": len(twice),
        "label_noise": int(twice["label_noise"].sum()),
        "unlike": count,
        "unlike_first": first,
        "folds": summary(tiles, folds),
    }
    METRICS.write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
