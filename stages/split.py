"""Divide the readable tiles into folds without leakage, and list the unreadable ones."""

import json
import logging
from pathlib import Path

import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.pools.dataset import split
from capetown.pools.dataset.drift import count_deviating
from capetown.pools.dataset.label_corrections import apply_corrections
from capetown.pools.dataset.listing import find_tiles, profile_tiles, reduced_sides, stray_images
from capetown.timing import step
from stages import log_folder, run
from stages.outs import put_in_place

RAW, OUT, METRICS = Path("raw"), Path("splits"), Path("metrics/split.json")
REJECTED = log_folder() / "split-rejected.csv"
log = logging.getLogger("capetown")


def main() -> None:
    """Write splits/ and metrics/split.json."""
    params = load_params(Path("params.yaml"))
    if not (RAW / TILES_FOLDER).exists():
        log.warning("no tiles in %s/: nothing to train on or to evaluate", RAW)
        with put_in_place(OUT, METRICS) as made:
            (made / OUT).mkdir()
            (made / OUT / "tiles.csv").write_text("path,label,sheet,group,fold,digest\n")
            (made / METRICS).write_text("{}\n")
        return
    settings = params.split
    shares = settings.model_dump(exclude={"corrections"})
    found = find_tiles(RAW / TILES_FOLDER, RAW)
    listed, corrected = apply_corrections(found, Path(settings.corrections))
    with step("read every tile"):
        readable, reasons = profile_tiles(listed, RAW, params.tiles)
    tiles = list(readable)
    profiles = {tile.path: profile for tile, (_, profile) in readable.items()}
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
        raise CapetownError(
            f"{error.what} ({len(rejected)} files are left out)",
            fix="; ".join(filter(None, [f"see {REJECTED} for the reasons", error.fix])),
        ) from error
    copies = split.duplicate_table(tiles, digests)
    for path, first, noise in copies.itertuples(index=False):
        if noise:
            log.warning("label noise: %s has the pixels of %s", path, first)
    deviating = count_deviating(profiles)
    if deviating[0]:
        log.warning("%d tiles deviate from the typical one, such as %s", *deviating)
    numbers = split.split_metrics(
        tiles, folds, settings.strategy, corrected=corrected, rejected=len(rejected),
        copies=copies, deviating=deviating,
    )  # fmt: skip
    for line in split.log_lines(tiles, folds, **shares):
        log.info("%s", line)
    table = split.tile_table(
        tiles, list(profiles.values()), digests, folds, settings.strategy,
        reduced_sides(RAW / "inventory.csv"),
    )  # fmt: skip
    with put_in_place(OUT, METRICS) as made:
        (made / OUT).mkdir()
        table.to_csv(made / OUT / "tiles.csv", index=False)
        rejected.to_csv(made / OUT / "rejected.csv", index=False)
        copies.to_csv(made / OUT / "duplicates.csv", index=False)
        (made / METRICS).write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
