"""Divide the readable tiles into folds without leakage, and list the unreadable ones."""

import json
from pathlib import Path

import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.params import BandRendering, Split, load_params
from capetown.pools.dataset import drift, groups, label_corrections, listing, split
from capetown.pools.dataset.neighbours import count_neighbours
from capetown.storage import FORMULA
from capetown.timing import step
from stages import log, log_folder, run
from stages.outs import put_in_place

RAW, OUT, METRICS = Path("raw"), Path("splits"), Path("metrics/split.json")
INVENTORY = RAW / "images/inventory.csv"
COLUMNS = ["path", "label", "sheet", "group", "fold", "digest"]
TILES, REJECTED = RAW / TILES_FOLDER, log_folder() / "split-rejected.csv"


def main() -> None:
    """Write splits/ and metrics/split.json."""
    params = load_params(Path("params.yaml"))
    if TILES.exists():
        tables, numbers = divide(params.split, params.tiles, params.seed)
    else:
        log.warning("no tiles in %s/: nothing to train on or to evaluate", TILES)
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
    table = groups.read_groups(Path(settings.groups), found)
    listed, corrected = label_corrections.apply_corrections(found, Path(settings.corrections))
    with step("read every tile"):
        tiles, digests, profiles, reasons = listing.profile_tiles(listed, RAW, rendering)
    left_out = [*reasons.items(), *listing.stray_images(TILES, RAW)]
    rejected = pd.DataFrame(left_out, columns=["path", "reason"])
    for path, why in left_out:
        log.warning("left out: %s: %s", path, why)
    with step("locate every tile"):
        locations = groups.locate_tiles(tiles, RAW)
    grouping = groups.group_tiles(tiles, table, locations, settings)
    tiles, source = grouping.tiles, grouping.source
    for note in grouping.notes:
        log.warning("%s", note)
    sides = listing.reduced_sides(INVENTORY)
    if source == "none" and any(tile.path in sides for tile in tiles):
        log.warning("tiles that earlier versions reduced lost their georeference: remove raw/")
    try:
        folds = split.split_tiles(tiles, digests, settings, seed)
    except CapetownError as error:
        if rejected.empty:
            raise
        rejected.to_csv(REJECTED, index=False)
        fix = "; ".join(filter(None, [f"see {REJECTED} for the reasons", error.fix]))
        raise CapetownError(f"{error.what} ({len(rejected)} files left out)", fix=fix) from error
    large = split.large_group(split.merged([tile.group for tile in tiles], digests))
    if large and settings.strategy != "random":
        log.warning("%s: the folds may not have their sizes", large)
    copies = split.duplicate_table(tiles, digests)
    for path, first, _ in copies[copies["label_noise"]].itertuples(index=False):
        log.warning("label noise: %s has the pixels of %s", path, first)
    deviating, described = drift.count_deviating([tile.path for tile in tiles], profiles)
    if deviating:
        log.warning("%d tiles deviate from the typical one, such as %s", deviating, described)
    log.info("%s", "\n".join(split.log_lines(grouping, folds, settings)))
    assigned = split.tile_table(tiles, profiles, digests, folds, source, sides)
    touching, divided = count_neighbours(tiles, folds, grouping.outlines) or (None, None)
    return {"tiles": assigned, "rejected": rejected, "duplicates": copies}, {
        "tiles": len(tiles), "corrected": corrected, "rejected": len(rejected),
        "duplicates": len(copies), "label_noise": int(copies["label_noise"].sum()),
        "unlike": deviating, "unlike_first": described,
        "groups_source": source, "touching": touching, "touching_in_two_folds": divided,
        "folds": split.summary(tiles, folds),
    }  # fmt: skip


if __name__ == "__main__":
    run(main)
