"""What makes the classifier better and what does not: variants of the recipe on the same splits.

    python -m benchmarks.recipe --tiles FOLDER --out FOLDER [VARIANT ...]

Each variant and seed is the stages `split` (by map sheet unless the variant says otherwise),
`train` and `evaluate` as they are, in a folder of its own under --out: every choice is made on
`valid`, and `test` is judged once. A run whose folder is there is not done again, so that the
command goes on where it stopped, and --table alone prints what there is. The differences are the
variant's metrics less the first one's, means over the seeds, with 95 % intervals from resampling
whole map sheets. `benchmarks.pointing` takes the folders of these runs.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from capetown.city import CLASSES
from capetown.params import load_params
from capetown.pools.dataset.listing import sheet_of
from capetown.pools.metrics import Floats, resampled_weights, weighted_scores

ROOT = Path(__file__).parent.parent
SHOWN = {"roc_auc": "ROC AUC", "balanced_accuracy": "Bal. acc.", "average_precision": "Avg. prec."}
RESAMPLES = 2000
BY_SHEET: dict[str, Any] = {"split.strategy": "sheet"}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-tta": {"train.tta": False},
    "head": {"train.regime": "head"},
    "size-384": {"train.image_size": 384},
    "size-224-epochs-5": {"train.image_size": 224, "train.epochs": 5},
    "block": {"split.strategy": "block"},
    "random": {"split.strategy": "random"},
    "size-512": {"train.image_size": 512},
    "zoom": {"train.augment.scale": 0.15},
    "batch-32": {"backbones.lite.batch_size": 32},
}


def workspace(folder: Path, tiles: Path, changes: Mapping[str, Any]) -> None:
    """Lay out what the stages read: changed params, and the tiles as raw/."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value
    (folder / "metrics").mkdir(parents=True)
    (folder / "raw").symlink_to(tiles.resolve())
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    for table in ("corrections", "groups"):
        shutil.copy(ROOT / values["split"][table], folder)


def run_stage(folder: Path, stage: str) -> None:
    """Run a stage in a workspace, its log beside it."""
    with (folder / f"{stage}.log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", f"stages.{stage}"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, stderr=log,
        )  # fmt: skip


def run(folder: Path, tiles: Path, changes: Mapping[str, Any], threads: int) -> None:
    """Split, train and evaluate in a folder, unless it is there."""
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    workspace(part, tiles, {**changes, "threads": threads})
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    for stage in ("split", "train", "evaluate"):
        run_stage(part, stage)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime) / 60
    (part / "minutes.json").write_text(json.dumps(minutes))
    part.rename(folder)


def resampled(
    folders: list[Path], sheets: npt.NDArray[np.str_], weights: Floats
) -> dict[str, Floats]:
    """The mean of each metric over runs, under weights of map sheets, shape (weightings,)."""
    found: dict[str, list[Floats]] = {name: [] for name in SHOWN}
    for folder in folders:
        said = pd.read_csv(folder / "metrics" / "predictions.csv")
        threshold = json.loads((folder / "metrics" / "evaluate.json").read_text())["threshold"]
        labels = said["label"].map(CLASSES.index).to_numpy(np.int64)
        column = np.searchsorted(sheets, said["path"].map(sheet_of).to_numpy(np.str_))
        scores = weighted_scores(
            labels, said["probability"].to_numpy(), threshold, weights[:, column]
        )
        for name, values in found.items():
            values.append(scores[name])
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def table(out: Path, variants: list[str], seeds: list[int]) -> str:
    """A row a variant of which all seeds were run: means over the seeds, and differences."""
    runs = {name: [out / name / str(seed) for seed in seeds] for name in variants}
    runs = {name: folders for name, folders in runs.items() if all(f.exists() for f in folders)}
    tables = [folder / "splits" / "tiles.csv" for folders in runs.values() for folder in folders]
    sheets = np.unique(np.concatenate([pd.read_csv(t)["sheet"].astype(str) for t in tables]))
    drawn = resampled_weights(sheets, resamples=RESAMPLES, seed=0)
    weights = np.vstack([np.ones((1, len(sheets))), drawn])
    head = ["", *SHOWN.values(), "CPU min.", *(f"{t}, less" for t in SHOWN.values())]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    base: dict[str, Floats] = {}
    for name, folders in runs.items():
        scores = resampled(folders, sheets, weights)
        base = base or scores
        cells = [name, *(f"{scores[metric][0]:.3f}" for metric in SHOWN)]
        cells += [_minutes(folders)]
        for metric in SHOWN:
            less = scores[metric] - base[metric]
            low, high = np.nanpercentile(less[1:], [2.5, 97.5])
            cells.append(
                f"{less[0]:+.3f} ({low:+.3f} to {high:+.3f})" if scores is not base else ""
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _minutes(folders: list[Path]) -> str:
    """The mean of the CPU minutes of runs."""
    found = [json.loads((folder / "minutes.json").read_text()) for folder in folders]
    return f"{np.mean(found):.1f}"


def variant(name: str) -> str:
    """A name of `VARIANTS`."""
    if name not in VARIANTS:
        raise argparse.ArgumentTypeError(f"no such variant: {name}")
    return name


def main() -> None:
    """Read the command line, run what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "variants", nargs="*", metavar="VARIANT", type=variant, help=", ".join(VARIANTS)
    )
    parser.add_argument("--tiles", type=Path, required=True, help="holds images/swimming-pool/")
    parser.add_argument("--out", type=Path, required=True, help="keeps the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=load_params(ROOT / "params.yaml").threads)
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args()
    chosen = given.variants or list(VARIANTS)
    if not given.table:
        for seed in given.seeds:
            for name in chosen:
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
                changes = {**BY_SHEET, **VARIANTS[name], "seed": seed}
                run(given.out / name / str(seed), given.tiles, changes, given.threads)
    print(table(given.out, chosen, given.seeds))


if __name__ == "__main__":
    main()
