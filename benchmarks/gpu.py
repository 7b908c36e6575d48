"""What a GPU brings, in one command of about ten minutes; needs no network and no tiles.

    python -m benchmarks.gpu

`caformer` at 384 pixels with random weights, on generated tiles of the City's size. Images a second
and the most memory of training in half precision, against single precision fed by a loop that
decodes every TIFF, as the earlier solution did; how far the logits of `cuda` and `cpu` are apart;
what is said when memory runs out; and whether batch normalisation over all processes is the same as
in one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from benchmarks.training import ROOT, decoding, learn, prepare
from capetown.errors import CapetownError
from capetown.params import Params, load_params
from capetown.pools.dataset.listing import find_tiles
from capetown.pools.model.architecture import build_model, classifier_layers
from capetown.pools.model.devices import make_repeatable, memory_errors, to_device
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.timm_import import timm
from capetown.pools.training.loop import Training
from tools.synthetic.tiles import write_tiles

CUDA = torch.device("cuda")
# Tiles that the earlier way decodes: at a tenth of a second each, a few batches are enough.
DECODED = 96


def ready(params: Params, folder: Path, *, amp: bool) -> Training:
    """A training on a folder's tiles, in half precision or not."""
    train = params.train.model_copy(update={"amp": amp})
    told = params.model_copy(update={"train": train, "device": "cuda"})
    tiles = find_tiles(folder / "images" / "swimming-pool", folder)
    return prepare(told, folder, tiles, folder / "cache")


def measure(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Images a second of a way to train on so many tiles, and its peak of memory in GB.

    The second of two rounds: in the first, kernels are chosen.
    """
    work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return count / (time.perf_counter() - start), torch.cuda.max_memory_allocated() / 1e9


def speeds(params: Params, folder: Path, count: int) -> None:
    """Print the speed and memory of each way to train."""
    print(f"{params.backbone.architecture}, {torch.cuda.get_device_name()}, {count} tiles")
    files = sorted(folder.glob("images/swimming-pool/*/*.tif"))[:DECODED]
    base = 0.0
    for amp in (False, True):
        training = ready(params, folder, amp=amp)
        if not base:
            base, memory = measure(lambda t=training: learn(t, decoding(t, files)), len(files))  # type: ignore[misc]
            print(f"{'single precision, decoding':30} {base:7.1f} images/s  {memory:5.1f} GB")
        speed, memory = measure(partial(training.run_epoch, 0, params.seed), count)
        how = f"{'half' if amp else 'single'} precision"
        print(f"{how:30} {speed:7.1f} images/s  {memory:5.1f} GB  {speed / base:5.1f} times")
        del training
        torch.cuda.empty_cache()


def agreement(params: Params) -> None:
    """Print how far the logits of both devices are apart, as `evaluate` and `predict` compute."""
    size = params.backbone.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), np.uint8)
    model = build_model(params.backbone, image_size=size, pretrained=False, seed=1)
    for parameter in [
        p for head in classifier_layers(model) for p in head.parameters() if p.ndim > 1
    ]:
        torch.nn.init.normal_(parameter, std=0.02)
    here, there = (
        predict_logits(to_device(deepcopy(model), device), pixels, mean=[0.5] * 3, std=[0.5] * 3)
        for device in (torch.device("cpu"), CUDA)
    )
    print(f"largest difference of a logit, cuda and cpu: {np.abs(here - there).max():.1e}")


def out_of_memory(params: Params, folder: Path) -> None:
    """Print what is said when a batch does not fit: 3 % of the memory are allowed."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.03)
    try:
        with memory_errors("batches of this size"):
            ready(params, folder, amp=True).run_epoch(0, params.seed)
        print("out of memory: a batch fits into 3 % of it")
    except CapetownError as error:
        print(error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def shared_norms(params: Params) -> None:
    """Print how far the features of `lite` are apart with norms of one process and of all."""
    lite = params.backbones["lite"]
    images = torch.rand(16, 3, lite.image_size, lite.image_size, device=CUDA)
    model = build_model(lite, image_size=lite.image_size, pretrained=False, seed=1)
    plain = to_device(model, CUDA).train()
    shared = timm.layers.convert_sync_batchnorm(deepcopy(plain))
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        distributed.init_process_group("nccl", init_method=meeting, rank=0, world_size=1)
        one, all_of_one = (forward(images) for forward in features_of(plain, shared))
        distributed.destroy_process_group()
    gap = float((one - all_of_one).abs().max() / one.abs().max())
    print(f"SyncBatchNorm of one process and BatchNorm: {gap:.1e} apart, of the largest feature")


def features_of(*models: Any) -> list[Callable[[Tensor], Tensor]]:
    """What gives the last features of timm's models."""
    return [model.forward_features for model in models]


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="caformer", help="a backbone of params.yaml")
    parser.add_argument("--count", type=int, default=480, help="generated tiles")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: this machine has no CUDA device")
    params = load_params(ROOT / "params.yaml").model_copy(update={"model": given.model})
    make_repeatable(params.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiles(folder, given.count, seed=1, side=1250)
        agreement(params)
        shared_norms(params)
        speeds(params, folder, given.count)
        out_of_memory(params, folder)


if __name__ == "__main__":
    main()
