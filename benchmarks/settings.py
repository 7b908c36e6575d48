"""What the settings of threads and memory are worth when training on a CPU.

    python -m benchmarks.settings

Each row takes the settings of the row above and one more. It is a process of its own that trains
`lite` at 384 pixels with random weights on made-up tiles, in turns with the others; the loss after
the same steps says whether a setting changes the arithmetic. Prints medians. With --busy N, the
same beside N processes that keep a core busy each.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np

from benchmarks.processes import ROOT, alone

# Before torch, as in the stages: the package says how threads wait.
from capetown.params import load_params

ROWS = STOCK, NOT_FILLED, KEPT, WAITING = (
    "as torch is, with deterministic algorithms", "new memory not filled with NaN",
    "freed memory kept", "threads that wait without spinning: the stages",
)  # fmt: skip
SIZE, WARM_STEPS = 384, 2


def measure(row: str, steps: int) -> dict[str, float]:
    """Images and CPU seconds an image of a row's settings in this process, and the mean loss."""
    import torch

    no_mallopt = patch("ctypes.CDLL", side_effect=OSError)
    with no_mallopt if row in (STOCK, NOT_FILLED) else contextlib.nullcontext():
        from capetown.pools.model import devices

    from capetown.pools.dataset.dataset import LabelledTiles
    from capetown.pools.model.architecture import build_model
    from capetown.pools.training.loop import Training
    from capetown.pools.training.schedules import Phase

    params = load_params(ROOT / "params.yaml")
    backbone = params.backbones["lite"]
    devices.make_repeatable(params.threads)
    if row == STOCK:
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    count = backbone.batch_size * steps
    drawn = np.random.default_rng(0)
    pixels = drawn.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    labels = drawn.integers(0, 2, count)
    fold = LabelledTiles([], np.array([]), np.array([]), labels, pixels, "")
    network = build_model(backbone, image_size=SIZE, pretrained=False, seed=0)
    phase = Phase("full", 0, 2, backbone.learning_rate)
    training = Training(
        devices.to_device(network, torch.device("cpu")), phase, fold, backbone, params.train
    )
    few = slice(0, WARM_STEPS * backbone.batch_size)
    training.train = LabelledTiles([], np.array([]), np.array([]), labels[few], pixels[few], "")
    training.run_epoch(0, seed=0)
    training.train = fold
    wall, cpu = time.perf_counter(), time.process_time()
    loss, _ = training.run_epoch(1, seed=0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"rate": count / wall, "cpu": cpu / count, "loss": loss}


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes beside this one that keep a core busy each, and end when this one does."""
    spin = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    others = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8, help="batches that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="processes beside it")
    parser.add_argument("--rows", type=int, nargs="+", default=range(len(ROWS)), metavar="ROW")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.steps)))
        return
    runs: dict[str, list[dict[str, float]]] = {ROWS[number]: [] for number in given.rows}
    with busy(given.busy):
        for _ in range(given.rounds):
            for row, found in runs.items():
                found.append(
                    alone(
                        "benchmarks.settings", "--steps", str(given.steps), "--one", row,
                        as_it_comes=row in (STOCK, NOT_FILLED, KEPT),
                    )
                )  # fmt: skip
    print(f"{'':<48}{'images/s':>9}{'ratio':>7}{'CPU s':>8}{'loss':>12}")
    first = next(iter(runs.values()))
    for row, found in runs.items():
        rate, cpu = (statistics.median(run[key] for run in found) for key in ("rate", "cpu"))
        ratio = statistics.median(a["rate"] / b["rate"] for a, b in zip(found, first, strict=True))
        print(f"{row:<48}{rate:>9.2f}{ratio:>7.2f}{cpu:>8.3f}{found[0]['loss']:>12.6f}")


if __name__ == "__main__":
    main()
