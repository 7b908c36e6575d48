"""How good and how fast the training is, on tiles that you have.

    python -m benchmarks.training quality --tiles raw
    python -m benchmarks.training speed --tiles raw

`quality` runs the stages split, train and evaluate as they are, for several seeds, fine-tuning
everything and the head alone: every choice is made on `valid`, and `test` is judged once. `speed`
compares images a second of the training loop with the same model fed with ready tensors, and with
a loop that decodes every TIFF in the training process at each epoch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from capetown.city import CLASSES
from capetown.params import Params, load_params
from capetown.pools.model.backbones import build_model, input_config
from capetown.pools.model.devices import choose_device, make_repeatable, place
from capetown.pools.model.inference import normalise
from capetown.pools.tiles.folds import Fold
from capetown.pools.tiles.packing import contents_digest, pack_tiles
from capetown.pools.tiles.reading import find_tiles, read_tile, resize
from capetown.pools.training.augment import draws
from capetown.pools.training.loop import Training
from capetown.pools.training.schedules import Phase, batches

ROOT = Path(__file__).parent.parent
FIGURES = ("roc_auc", "balanced_accuracy", "average_precision")


def quality(params: Params, tiles: Path, seeds: list[int]) -> None:
    """Print the test metrics and minutes of each run, and their means."""
    print(f"{params.model}, {params.backbone.architecture}, threads {params.threads}")
    print("regime  seed  ROC AUC  bal. acc.  avg. prec.  minutes")
    for regime in ("full", "head"):
        runs = [_run(params, tiles, seed, regime) for seed in seeds]
        for seed, run in zip(seeds, runs, strict=True):
            _print_row(regime, str(seed), run)
        _print_row(regime, "mean", [statistics.mean(column) for column in zip(*runs, strict=True)])


def _run(params: Params, tiles: Path, seed: int, regime: str) -> list[float]:
    """The figures of a run of three stages, and its minutes."""
    values = params.model_dump() | {"seed": seed}
    values["train"]["regime"] = regime
    # The tiles of one sheet were cut from one photograph.
    values["split"]["strategy"] = "sheet"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "metrics").mkdir()
        (root / "raw").symlink_to(tiles.resolve())
        (root / "params.yaml").write_text(yaml.safe_dump(values))
        start = time.perf_counter()
        for stage in ("split", "train", "evaluate"):
            subprocess.run(
                [sys.executable, "-m", f"stages.{stage}"],
                cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
            )  # fmt: skip
        minutes = (time.perf_counter() - start) / 60
        found = json.loads((root / "metrics" / "evaluate.json").read_text())
    return [*(found[name] for name in FIGURES), minutes]


def _print_row(regime: str, seed: str, run: list[float]) -> None:
    auc, accuracy, precision, minutes = run
    print(
        f"{regime:6}  {seed:>4}  {auc:7.4f}  {accuracy:9.4f}  {precision:10.4f}  {minutes:7.1f}",
        flush=True,
    )


def speed(params: Params, tiles: Path, count: int, rounds: int) -> None:
    """Print images a second of three ways to feed one model, in turns, and their medians."""
    make_repeatable(params.threads)
    device = choose_device(params.device)
    size = params.train.image_size or params.backbone.image_size
    chosen = find_tiles(tiles / "images" / "swimming-pool", tiles)
    chosen = [chosen[n] for n in np.random.default_rng(0).permutation(len(chosen))[:count]]
    files = [tiles / tile.path for tile in chosen]
    labels = np.array([CLASSES.index(tile.label) for tile in chosen])
    model = build_model(
        params.backbone, image_size=size, pretrained=False, seed=params.seed,
        inputs=params.train.model_dump(include={"interpolation", "mean", "std"}),
    )  # fmt: skip
    how = input_config(model)["interpolation"]
    with tempfile.TemporaryDirectory() as cache:
        pixels = pack_tiles(files, contents_digest(files), size, how, Path(cache))
        fold = Fold([], np.array([]), np.array([]), labels, pixels, "")
        phase = Phase("full", 0, 1000, params.backbone.learning_rate)
        training = Training(place(model, device), phase, fold, params.backbone, params.train)
        training.run_epoch(0, params.seed)
        ready = list(_ready(training))
        ways: dict[str, Callable[[int], object]] = {
            "the training loop": lambda epoch: training.run_epoch(epoch, params.seed),
            "ready tensors in memory": lambda _: _learn(training, ready),
            "every TIFF decoded in the loop": lambda _: _learn(
                training, _decoding(training, files, size, how)
            ),
        }
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(1, rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way(epoch)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                speeds[name].append(count / (time.perf_counter() - start))
    print(f"{params.backbone.architecture} at {size}, {device}, {count} tiles, {rounds} rounds")
    ours = speeds["the training loop"]
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(ours, found, strict=True))
        print(f"{name:32} {statistics.median(found):7.1f} images/s   loop / this: {ratio:.3f}")


def _learn(training: Training, fed: Iterable[tuple[Tensor, Tensor]]) -> None:
    training.set_mode()
    for step, (images, labels) in enumerate(fed):
        training.learn(images, labels, 1e-4, of=len(labels))
        if training.average:
            training.average.update(training.model, step=step + 1)


def _ready(training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    count = len(training.train.labels)
    drawn = draws(0, 0, count)
    for rows in batches(count, training.batch_size, 0, 0):
        yield training.images(rows, drawn[rows])


def _decoding(
    training: Training, files: list[Path], size: int, how: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """One image after the other: decode, resize, to the device, normalise."""
    for rows in batches(len(files), training.batch_size, 0, 0):
        images = [
            normalise(
                torch.from_numpy(resize(read_tile(files[row]), size, how).copy())
                .to(training.device)
                .permute(2, 0, 1)[None]
                .float()
                / 255,
                training.inputs["mean"],
                training.inputs["std"],
            )
            for row in rows
        ]
        labels = torch.from_numpy(training.train.labels[rows]).to(training.device)
        yield torch.cat(images), labels


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("quality", "speed"):
        added = commands.add_parser(name)
        added.add_argument("--tiles", type=Path, required=True, help="holds images/swimming-pool/")
        added.add_argument("--model", help="a backbone; by default the one in params.yaml")
    commands.choices["quality"].add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    commands.choices["speed"].add_argument("--count", type=int, default=320, help="tiles")
    commands.choices["speed"].add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(update={"model": given.model or params.model})
    if given.command == "quality":
        quality(params, given.tiles, given.seeds)
    else:
        speed(params, given.tiles, given.count, given.rounds)


if __name__ == "__main__":
    main()
