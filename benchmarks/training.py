"""How fast the training loop is, on tiles that you have.

    python -m benchmarks.training --tiles FOLDER

compares images a second of the training loop with the same model fed with ready tensors, and with
a loop that decodes every TIFF in the training process at each epoch.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from capetown.city import CLASSES
from capetown.imagery.reading import read_tile, resize
from capetown.params import Params, load_params
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.dataset.listing import Tile, find_tiles
from capetown.pools.dataset.pixel_cache import cached_pixels
from capetown.pools.model.architecture import build_model, input_config
from capetown.pools.model.devices import choose_device, make_repeatable, to_device
from capetown.pools.model.inference import normalise
from capetown.pools.training.augment import draws
from capetown.pools.training.loop import Training
from capetown.pools.training.schedules import Phase, batches

ROOT = Path(__file__).parent.parent


def prepare(params: Params, tiles: Path, chosen: list[Tile], cache: Path) -> Training:
    """The second phase of a training on these tiles, with random weights."""
    device = choose_device(params.device)
    size = params.train.image_size or params.backbone.image_size
    model = build_model(
        params.backbone, image_size=size, pretrained=False, seed=params.seed,
        inputs=params.train.model_dump(include={"interpolation", "mean", "std"}),
    )  # fmt: skip
    files = [tiles / tile.path for tile in chosen]
    labels = np.array([CLASSES.index(tile.label) for tile in chosen])
    how = input_config(model)["interpolation"]
    pixels = cached_pixels(files, str(files), size, how, cache)
    fold = LabelledTiles([], np.array([]), np.array([]), labels, pixels, "")
    phase = Phase("full", 0, 1000, params.backbone.learning_rate)
    return Training(to_device(model, device), phase, fold, params.backbone, params.train)


def speed(params: Params, tiles: Path, count: int, rounds: int) -> None:
    """Print images a second of three ways to feed one model, in turns, and their medians."""
    make_repeatable(params.threads)
    found = find_tiles(tiles / "images" / "swimming-pool", tiles)
    chosen = [found[n] for n in np.random.default_rng(0).permutation(len(found))[:count]]
    with tempfile.TemporaryDirectory() as cache:
        training = prepare(params, tiles, chosen, Path(cache))
        training.run_epoch(0, params.seed)
        ready = list(_ready(training))
        ways: dict[str, Callable[[int], object]] = {
            "the training loop": lambda epoch: training.run_epoch(epoch, params.seed),
            "ready tensors in memory": lambda _: learn(training, ready),
            "every TIFF decoded in the loop": lambda _: learn(
                training, decoding(training, [tiles / tile.path for tile in chosen])
            ),
        }
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(1, rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way(epoch)
                if training.device.type == "cuda":
                    torch.cuda.synchronize()
                speeds[name].append(len(chosen) / (time.perf_counter() - start))
    size = training.train.pixels.shape[1]
    print(f"{params.backbone.architecture} at {size}, {training.device}, {len(chosen)} tiles")
    ours = speeds["the training loop"]
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(ours, values, strict=True))
        print(f"{name:32} {statistics.median(values):7.1f} images/s   loop / this: {ratio:.3f}")


def learn(training: Training, fed: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Take a step on each batch of images and labels, as the training loop does."""
    training.set_mode()
    for step, (images, labels) in enumerate(fed):
        training.train_step(images, labels, 1e-4, of=len(labels))
        if training.average:
            training.average.update(training.model, step=step + 1)


def _ready(training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    count = len(training.train.labels)
    drawn = draws(0, 0, count)
    for rows in batches(count, training.batch_size, 0, 0):
        yield training.inputs_of(rows, drawn[rows])


def decoding(training: Training, files: list[Path]) -> Iterator[tuple[Tensor, Tensor]]:
    """One image after the other: decode, resize, to the device, normalise."""
    size, inputs = training.train.pixels.shape[1], training.inputs
    for rows in batches(len(files), training.batch_size, 0, 0):
        images = [
            normalise(
                torch.from_numpy(
                    resize(read_tile(files[row]), size, inputs["interpolation"]).copy()
                )
                .to(training.device)
                .permute(2, 0, 1)[None]
                .float()
                / 255,
                inputs["mean"],
                inputs["std"],
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
    parser.add_argument("--tiles", type=Path, required=True, help="holds images/swimming-pool/")
    parser.add_argument("--model", help="a backbone; by default the one in params.yaml")
    parser.add_argument("--count", type=int, default=320, help="tiles")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(update={"model": given.model or params.model})
    speed(params, given.tiles, given.count, given.rounds)


if __name__ == "__main__":
    main()
