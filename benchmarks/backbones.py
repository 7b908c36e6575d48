"""What this package cannot train: every architecture that timm publishes weights of, tried once.

Each is built with random weights at a small size, trained for a step of each phase, saved, loaded
and explained, in its own process. Failures go into the list that training and
`python -m tools.timm_catalogue` read, with the version of timm. It takes five hours of one core,
and continues where it was interrupted::

    python -m benchmarks.backbones

What the machine has no memory to train is built with two of its many equal blocks, and where it has
no such blocks, its head alone is trained.
"""

import argparse
import json
import os
import resource
import signal
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from capetown.checks.smoke_test import run
from capetown.errors import CapetownError, one_line
from capetown.params import Backbone, Train, load_params
from capetown.pools.model.architecture import UNTRAINABLE, classifier_layers, create
from capetown.pools.model.pretrained import pretrained_config
from capetown.pools.model.timm_import import timm
from capetown.pools.training.fit_one import TrainingConfig

# Pixels, in the order they are tried: the first that an architecture takes, else its own.
SIZES = (64, 112, 128)
SECONDS, MEMORY = 600, psutil.virtual_memory().total
# Of a weight: itself, gradient, two moments, average, the copies that are saved, and some to spare.
BYTES = 40
# What leaves two blocks of many; the second, where blocks attend with different numbers of heads.
SHORT: tuple[dict[str, Any], ...] = ({"depth": 2}, {"depth": 2, "num_kv_heads": 8})


def architectures() -> list[str]:
    """The architectures that timm publishes weights of, without the weights' tags."""
    return sorted({name.split(".")[0] for name in timm.list_models(pretrained=True)})


def measure(architecture: str) -> dict[str, Any]:
    """Parameters, in millions, of an architecture that is built without memory."""
    with torch.device("meta"):
        try:
            model = create(architecture, pretrained_config(architecture).input_size[-1])
            classifier_layers(model)
        except CapetownError as error:
            return {"parameters": 0.0, "error": str(error)}
    size = sum(p.numel() for p in model.parameters()) / 1e6
    return {"parameters": round(size, 1)}


def shortened(architecture: str) -> dict[str, Any]:
    """The arguments that build an architecture with two of its blocks; none if it has no such."""
    for changes in SHORT:
        with torch.device("meta"), suppress(Exception):
            timm.create_model(architecture, **changes)
            return changes
    return {}


def try_sizes(architecture: str, settings: Train, report: int, *, whole: bool) -> None:
    """Try an architecture, and write what came of it to a file descriptor."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(SECONDS)
    result: dict[str, Any] = {}
    part = {}
    if not whole and (changes := shortened(architecture)):
        timm.create_model = partial(timm.create_model, **changes)
        part = {"part": "two blocks"}
    elif not whole:
        settings = settings.model_copy(update={"regime": "head"})
        part = {"part": "head"}
    for size in (*SIZES, pretrained_config(architecture).input_size[-1]):
        backbone = Backbone(
            architecture=architecture, image_size=size, batch_size=2, learning_rate=1e-4
        )
        try:
            run(TrainingConfig(
                backbone=backbone, settings=settings, pretrained=False, seed=1, threads=1,
                device="cpu",
            ))  # fmt: skip
            result = {"size": size, **part}
            break
        except Exception as error:  # each architecture fails in its own way
            said = error.what if isinstance(error, CapetownError) else one_line(error)
            result = {"size": size, "error": said or type(error).__name__}
    os.write(report, json.dumps(result).encode())


def try_apart(architecture: str, settings: Train, *, whole: bool) -> dict[str, Any]:
    """Try an architecture in a fork of this process, which has imported everything."""
    out, into = os.pipe()
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(out)
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        try:
            try_sizes(architecture, settings, into, whole=whole)
        finally:
            os._exit(0)
    os.close(into)
    _, status = os.waitpid(child, 0)
    with os.fdopen(out) as pipe:
        said = pipe.read()
    seconds = round(time.perf_counter() - start, 1)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        reason = {
            "SIGALRM": f"over {SECONDS} s",
            "SIGKILL": f"needs more than the {MEMORY / 1e9:.0f} GB of memory that it was tried in",
        }.get(name, f"crashes its process ({name})")
        return {"error": reason, "seconds": seconds}
    return {**json.loads(said or '{"error": "ended without a word"}'), "seconds": seconds}


def write_list(rows: dict[str, dict[str, Any]]) -> None:
    """Write the list, and print what it comes to."""
    tried = [row for row in rows.values() if "seconds" in row]
    refused = {name: row["error"] for name, row in rows.items() if "error" in row}
    found = {
        "timm": timm.__version__,
        "tried": len(tried),
        "in_part": sum("part" in row for row in tried),
        "refused": dict(sorted(refused.items())),
    }
    UNTRAINABLE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{len(rows)} architectures of timm {timm.__version__}")
    print(f"tried {len(tried)}: {sum('error' not in row for row in tried)} can be trained")
    for part, count in Counter(row["part"] for row in tried if "part" in row).most_common():
        print(f"{count:5d}  tried in part: {part}")
    for reason, count in Counter(refused.values()).most_common():
        print(f"{count:5d}  {reason}")


def main() -> None:
    """Try what was not tried yet, and write the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path(f"logs/timm-{timm.__version__}.json"))
    arguments = parser.parse_args()
    settings = load_params(Path("params.yaml")).train
    results: Path = arguments.results
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(results.read_text()) if results.exists() else {}
    for name in architectures():
        if name not in rows:
            rows[name] = measure(name)
    for name in sorted(rows, key=lambda name: float(rows[name]["parameters"])):
        row = rows[name]
        if "seconds" not in row and "error" not in row:
            whole = row["parameters"] * 1e6 * BYTES <= MEMORY
            row |= try_apart(name, settings, whole=whole)
            results.write_text(json.dumps(rows, indent=1))
            print(f"{name:50} {row['parameters']:7.1f} M  {row.get('error', 'trains')}", flush=True)
    write_list(rows)


if __name__ == "__main__":
    main()
