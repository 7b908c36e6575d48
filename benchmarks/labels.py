"""How many wrong labels `capetown labels` finds, on real tiles of which some are flipped.

    python -m benchmarks.labels --tiles FOLDER --out FOLDER

Flips the labels of 5 % of the tiles by lot, has every tile judged by a model that has not learned
from it, and prints how many of the flipped stand among the first of those doubted. The same command
goes on where it stopped.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.recipe import ROOT, run_stage, workspace
from capetown.city import CLASSES
from capetown.params import load_params
from capetown.pools.dataset.pixel_cache import cache_folder
from capetown.pools.evaluation.label_audit import doubtful_labels, out_of_fold


def main() -> None:
    """Flip, judge and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=Path, required=True, help="holds images/swimming-pool/")
    parser.add_argument("--out", type=Path, required=True, help="keeps what was done so far")
    parser.add_argument("--parts", type=int, default=5, help="models to train")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels, to flip")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--threads", type=int, default=load_params(ROOT / "params.yaml").threads)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not given.out.exists():
        changes = {"split.strategy": "sheet", "seed": given.seed, "threads": given.threads}
        workspace(given.out, given.tiles, changes)
        run_stage(given.out, "split")
    table = pd.read_csv(given.out / "splits" / "tiles.csv", dtype=str, keep_default_na=False)
    count = round(given.share * len(table))
    flipped = np.random.default_rng(given.seed).choice(len(table), count, replace=False)
    other = dict(zip(CLASSES, reversed(CLASSES), strict=True))
    table.loc[flipped, "label"] = table["label"].iloc[flipped].map(other)
    table.to_csv(given.out / "flipped.csv", index=False)
    tiles, probabilities, _, _ = out_of_fold(
        load_params(given.out / "params.yaml"), table=given.out / "flipped.csv", root=given.tiles,
        cache=cache_folder(), checkpoints=given.out / "checkpoints", parts=given.parts,
    )  # fmt: skip
    found = doubtful_labels(tiles, probabilities)
    wrong = found["path"].isin(table["path"].iloc[flipped]).to_numpy()
    for share in (0.05, 0.1, 0.2):
        first = round(share * len(wrong))
        print(f"first {share:.0%} ({first} tiles): {wrong[:first].sum()} of {count} flipped labels")
    suspect = found["suspect"].to_numpy()
    print(f"suspect: {suspect.sum()} tiles, {(wrong & suspect).sum()} of {count} flipped labels")


if __name__ == "__main__":
    main()
