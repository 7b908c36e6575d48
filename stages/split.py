"""Divide the readable tiles into folds without leakage, and list the unreadable ones."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.imagery.georeference import Outline
from capetown.params import BandRendering, Split, load_params
from capetown.pools.dataset import drift, groups, label_corrections, listing, locations, split
from capetown.pools.dataset.located_table import COPIED, write_located
from capetown.pools.dataset.neighbours import count_neighbours
from capetown.storage import FORMULA
from capetown.timing import step
from stages import log, log_folder, run
from stages.outs import put_in_place

RAW, OUT, METRICS = Path("raw"), Path("splits"), Path("metrics/split.json")
INVENTORY = RAW / "images/inventory.csv"
COLUMNS = [*COPIED, "sheet", "digest"]
TILES, REJECTED = RAW / TILES_FOLDER, log_folder() / "split-rejected.csv"


def main() -> None:
    """Write splits/ and metrics/split.json."""
    params = load_params(Path("params.yaml"))
    if TILES.exists():
        tables, outlines, numbers = divide(params.split, params.tiles, params.seed)
    else:
        log.warning("no tiles in %s/: nothing to train on or to evaluate", TILES)
        tables, outlines, numbers = {"tiles": pd.DataFrame(columns=COLUMNS)}, [], {}
    with put_in_place(OUT, METRICS) as made:
        (made / OUT).mkdir()
        for name, table in tables.items():
            as_text = table.replace(FORMULA, r"'\1", regex=True)
            as_text.to_csv(made / OUT / f"{name}.csv", index=False)
        write_located(tables["tiles"], outlines, made / OUT)
        (made / METRICS).write_text(json.dumps(numbers, indent=2) + "\n")


def divide(
    settings: Split, rendering: BandRendering, seed: int
) -> tuple[dict[str, pd.DataFrame], Sequence[Outline | None], dict[str, object]]:
    """The tables of splits/ by name, the outline of each tile, and the metrics."""
    found = listing.find_tiles(TILES, RAW)
    table = groups.read_groups(Path(settings.groups), found)
    listed, corrected = label_corrections.apply_corrections(found, Path(settings.corrections))
    with step("read every tile"):
        tiles, digests, profiles, edges, reasons = listing.profile_tiles(listed, RAW, rendering)
    left_out = [*reasons.items(), *listing.stray_images(TILES, RAW)]
    rejected = pd.DataFrame(left_out, columns=["path", "reason"])
    for path, why in left_out:
        log.warning("left out: %s: %s", path, why)
    with step("locate every tile"):
        places = locations.locate_tiles(tiles, RAW)
        places, check = locations.check_locations(tiles, places, edges, seed)
    verdict = check.verdict if check else "unknown"
    if check:
        log.info("names of tiles: %s", check)
    grouping = groups.group_tiles(tiles, table, places, settings)
    tiles, source = grouping.tiles, grouping.source
    for note in [*places.notes, *grouping.notes]:
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
    assigned = split.tile_table(
        tiles, profiles, digests, folds, source, sides, places.sources, verdict
    )
    near = split.near_test(tiles, folds, places, settings.gap)
    if near:
        log.warning("left out: %d training tiles nearer than %d m to the test fold, listed in %s",
                    len(near), settings.gap, OUT / "near_test.csv")  # fmt: skip
    kept = sorted(set(range(len(tiles))) - set(near))
    tiles, folds = [tiles[n] for n in kept], [folds[n] for n in kept]
    outlines = [places.outlines[n] for n in kept]
    pairs = count_neighbours(folds, outlines)
    touching, divided = pairs or (None, None)
    lines = split.log_lines(replace(grouping, tiles=tiles), folds, settings, pairs)
    log.info("%s", "\n".join(lines))
    tables = {
        "tiles": assigned.iloc[kept], "rejected": rejected, "duplicates": copies,
        "near_test": assigned.iloc[near][["path", "label", "group"]],
    }  # fmt: skip
    return tables, outlines, {
        "tiles": len(tiles), "corrected": corrected, "rejected": len(rejected),
        "duplicates": len(copies), "label_noise": int(copies["label_noise"].sum()),
        "near_test": len(near), "unlike": deviating, "unlike_first": described,
        "groups_source": source, "located": places.counts(),
        "names": str(check) if check else "", "names_verdict": verdict,
        "touching": touching, "touching_in_two_folds": divided,
        "folds": split.summary(tiles, folds),
    }  # fmt: skip


if __name__ == "__main__":
    run(main)
