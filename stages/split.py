"""Divide the readable tiles into folds that share no block; list the unreadable ones."""

import json
import logging
from pathlib import Path

import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.pools.splits import duplicates, group_of, remarks, split_tiles, summary
from capetown.pools.tiles.reading import find_tiles, look_at_tiles
from capetown.pools.tiles.unlike import count_unlike, difference, usual
from stages import kept_logs, run, step
from stages.outs import put_in_place

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
    with step("read every tile"):
        readable, reasons = look_at_tiles(found, RAW, params.tiles)
    # Equal files of tiles that `download` reduced are equal pictures.
    by_sha256 = reduced(INVENTORY)
    tiles = list(readable)
    digests = [by_sha256.get(tile.path) or digest for tile, (digest, _) in readable.items()]
    looks = [look for _, look in readable.values()]
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
    most = usual(looks)
    unlike, first_unlike = count_unlike(
        {tile.path: difference(look, most) for tile, look in zip(tiles, looks, strict=True)}
    )
    if unlike:
        log.warning("%d tiles are unlike the others, such as %s", unlike, first_unlike)
    counts = {
        "tiles": len(tiles),
        "rejected": len(rejected),
        "duplicates": len(twice),
        "label_noise": int(twice["label_noise"].sum()),
        "unlike": unlike,
        "unlike_first": first_unlike,
        "folds": summary(tiles, folds, how.strategy),
    }
    for line in remarks(tiles, folds, **how.model_dump()):
        log.info("%s", line)
    with put_in_place(OUT, METRICS) as made:
        (made / OUT).mkdir()
        groups = [group_of(tile, how.strategy) for tile in tiles]
        divided = pd.DataFrame(tiles).assign(group=groups, fold=folds, digest=digests)
        divided = pd.concat([divided, pd.DataFrame(looks)], axis=1)
        divided.to_csv(made / OUT / "tiles.csv", index=False)
        rejected.to_csv(made / OUT / "rejected.csv", index=False)
        twice.to_csv(made / OUT / "duplicates.csv", index=False)
        (made / METRICS).write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
