"""Divide the readable tiles into folds that share no block; list the unreadable ones.

To look at the tiles it must decode them all: it keeps them in the cache as `train` will want them,
and so runs again for a model of another size, though what it writes stays the same.
"""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.imagery.reading import Pixels, resize
from capetown.params import load_params
from capetown.pools.dataset import split
from capetown.pools.dataset.dataset import keep_folds
from capetown.pools.dataset.drift import count_deviating, deviations
from capetown.pools.dataset.label_corrections import corrected
from capetown.pools.dataset.listing import find_tiles, profile_tiles, stray_images
from capetown.pools.dataset.pixel_cache import cache_folder, scratch
from capetown.timing import step
from stages import log_folder, run
from stages.outs import put_in_place

RAW, OUT, METRICS = Path("raw"), Path("splits"), Path("metrics/split.json")
REJECTED = log_folder() / "split-rejected.csv"
# Of nine tenths of timm's models; for the others `train` decodes once more.
INTERPOLATION = "bicubic"
log = logging.getLogger("capetown")


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
    how = params.split
    shares = how.model_dump(exclude={"corrections"})
    found = find_tiles(RAW / TILES_FOLDER, RAW)
    listed, changed = corrected(found, Path(how.corrections))
    size = params.train.image_size or params.backbone.image_size
    interpolation = params.train.interpolation or INTERPOLATION
    decoded = scratch(len(listed), size, cache_folder())

    def keep(row: int, pixels: Pixels) -> None:
        decoded[row] = resize(pixels, size, interpolation)

    with step("read every tile"):
        readable, reasons = profile_tiles(listed, RAW, params.tiles, keep)
    tiles = list(readable)
    looks = {tile.path: look for tile, (_, look) in readable.items()}
    digests = [digest for digest, _ in readable.values()]
    left_out = [(tile.path, why) for tile, why in reasons.items()]
    left_out += stray_images(RAW / TILES_FOLDER, RAW)
    rejected = pd.DataFrame(left_out, columns=["path", "reason"])
    for path, why in left_out:
        log.warning("left out: %s: %s", path, why)
    try:
        folds = split.split_tiles(tiles, digests, seed=params.seed, **shares)
    except CapetownError as error:
        if rejected.empty:
            raise
        rejected.to_csv(REJECTED, index=False)
        more = f"{len(rejected)} tiles are left out: {REJECTED} says why."
        raise CapetownError(f"{error} {more}") from error
    twice = split.duplicate_table(tiles, digests)
    for path, first, noise in twice.itertuples(index=False):
        if noise:
            log.warning("label noise: %s has the pixels of %s", path, first)
    unlike = count_deviating(deviations(looks))
    if unlike[0]:
        log.warning("%d tiles are unlike the others, such as %s", *unlike)
    numbers = split.counts(
        tiles, folds, how.strategy, corrected=changed, rejected=len(rejected), twice=twice,
        unlike=unlike,
    )  # fmt: skip
    for line in split.remarks(tiles, folds, **shares):
        log.info("%s", line)
    with put_in_place(OUT, METRICS) as made:
        (made / OUT).mkdir()
        table = split.tile_table(tiles, list(looks.values()), digests, folds, how.strategy)
        table.to_csv(made / OUT / "tiles.csv", index=False)
        rejected.to_csv(made / OUT / "rejected.csv", index=False)
        twice.to_csv(made / OUT / "duplicates.csv", index=False)
        (made / METRICS).write_text(json.dumps(numbers, indent=2) + "\n")
        with step("keep what is decoded"):
            rows = np.array([row for row, tile in enumerate(listed) if tile in readable])
            keep_folds(
                table, decoded, rows,
                interpolation=interpolation, cache=cache_folder(), rule=params.tiles,
            )  # fmt: skip


if __name__ == "__main__":
    run(main)
