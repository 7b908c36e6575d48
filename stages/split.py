"""Divide the readable tiles into folds without leakage, and list the unreadable ones."""

import json
from pathlib import Path

import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.params import BandRendering, Split, load_params
from capetown.pools.dataset import drift, label_corrections, listing, split
from capetown.storage import FORMULA
from capetown.timing import step
from stages import log, log_folder, run
from stages.outs import put_in_place

RAW, OUT, METRICS = Path("raw"), Path("splits"), Path("metrics/split.json")
COLUMNS = ["path", "label", "sheet", "group", "fold", "digest"]
TILES, REJECTED = RAW / TILES_FOLDER, log_folder() / "split-rejected.csv"


def main() -> None:
    """Write splits/ and metrics/split.json."""
    params = load_params(Path("params.yaml"))
    if TILES.exists():
        tables, numbers = divide(params.split, params.tiles, params.seed)
    else:
        log.warning("no tiles in %s/: nothing to train on or to evaluate", RAW)
        tables, numbers = {"tiles": pd.DataFrame(columns=COLUMNS)}, {}
    with put_in_place(OUT, METRICS) as made:
        (made / OUT).mkdir()
        for name, table in tables.items():
            as_text = table.replace(FORMULA, r"'\1", regex=True)
            as_text.to_csv(made / OUT / f"{name}.csv", index=False)
        (made / METRICS).write_text(json.dumps(numbers, indent=2) + "\n")


def divide(
    settings: Split, rendering: BandRendering, seed: int
) -> tuple[dict[str, pd.DataFrame], dict[str, object]]:
    """The tables of splits/ by name, and the metrics."""
    found = listing.find_tiles(TILES, RAW)
    listed, corrected = label_corrections.apply_corrections(found, Path(settings.corrections))
    with step("read every tile"):
        tiles, digests, profiles, reasons = listing.profile_tiles(listed, RAW, rendering)
    left_out = [*reasons.items(), *listing.stray_images(TILES, RAW)]
    rejected = pd.DataFrame(left_out, columns=["path", "reason"])
    for path, why in left_out:
        log.warning("left out: %s: %s", path, why)
    try:
        folds = split.split_tiles(tiles, digests, settings, seed)
    except CapetownError as error:
        if rejected.empty:
            raise
        rejected.to_csv(REJECTED, index=False)
        fix = "; ".join(filter(None, [f"see {REJECTED} for the reasons", error.fix]))
        raise CapetownError(f"{error.what} ({len(rejected)} files left out)", fix=fix) from error
    copies = split.duplicate_table(tiles, digests)
    for path, first, _ in copies[copies["label_noise"]].itertuples(index=False):
        log.warning("label noise: %s has the pixels of %s", path, first)
    deviating, described = drift.count_deviating([tile.path for tile in tiles], profiles)
    if deviating:
        log.warning("%d tiles deviate from the typical one, such as %s", deviating, described)
    log.info("%s", "\n".join(split.log_lines(tiles, folds, settings)))
    sides = listing.reduced_sides(RAW / "inventory.csv")
    table = split.tile_table(tiles, profiles, digests, folds, settings.strategy, sides)
    return {"tiles": table, "rejected": rejected, "duplicates": copies}, {
        "tiles": len(tiles), "corrected": corrected, "rejected": len(rejected),
        "duplicates": len(copies), "label_noise": int(copies["label_noise"].sum()),
        "unlike": deviating, "unlike_first": described,
        "folds": split.summary(tiles, folds, settings.strategy),
    }  # fmt: skip


if __name__ == "__main__":
    run(main)
