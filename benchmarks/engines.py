"""Engines for a model's answers on CPUs: speed, and agreement with torch.

    python -m benchmarks.engines

For `lite` and `convnext_tiny` with random weights at their own size, each engine is a process of
its own, in turns, that answers for the same tiles in batches of 32: torch with the allocator and
the waiting threads as they come, torch as `capetown predict` sets it, torch compiled, ONNX Runtime,
OpenVINO, and OpenVINO in 8 bits (quantised by ONNX Runtime on tiles of the same kind). Prints
tiles and CPU milliseconds by medians, and the most that a logit differs from torch's; then what
reading and resizing a tile of the City's size costs.

    python -m benchmarks.engines --judge RUN FOLDER

says how a trained model's answers change in 8 bits; RUN is a folder that `benchmarks.recipe` made
of the tiles in FOLDER.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.processes import ROOT, alone
from capetown.params import load_params

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
BATCH, THREADS = 32, 2
BACKBONES = ("lite", "convnext_tiny")
STOCK, TORCH, COMPILED, ONNX, OPENVINO, EIGHT = ENGINES = (
    "torch as it comes", "torch as predict has it", "torch compiled", "ONNX Runtime", "OpenVINO",
    "OpenVINO, 8 bits",
)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=64, help="tiles that each process answers for")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), metavar="ENGINE")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), metavar="NAME")
    parser.add_argument(
        "--judge", type=Path, nargs=2, metavar=("RUN", "FOLDER"), help="how good are 8 bits?"
    )
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "BACKBONE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, backbone = arguments.one
        print(json.dumps(measure(name, backbone, arguments.count)))
        return
    if arguments.judge:
        judge_eight_bits(*arguments.judge)
        return
    for backbone in arguments.backbones:
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.engines}
        for _ in range(arguments.rounds):
            for name in arguments.engines:
                found = alone(
                    "benchmarks.engines", "--count", str(arguments.count), "--one", name, backbone,
                    as_it_comes=name == STOCK,
                )  # fmt: skip
                runs[name].append(found)
        print(f"{backbone:<26}{'tiles/s':>9}{'CPU ms':>9}{'ratio':>8}{'by CPU':>8}{'logits':>10}")
        base = runs[arguments.engines[0]]
        truth = np.array(runs[TORCH][0]["logits"]) if TORCH in runs else None
        for name, found in runs.items():
            rate, spent = (median(found, key) for key in ("rate", "cpu"))
            apart = "" if truth is None else f"{np.abs(found[0]['logits'] - truth).max():.1e}"
            print(f"{name:<26}{rate:>9.1f}{spent:>9.1f}{rate / median(base, 'rate'):>8.2f}"
                  f"{median(base, 'cpu') / spent:>8.2f}{apart:>10}", flush=True)  # fmt: skip
    print(f"{'reading and resizing a tile of 1,250 pixels':<44}{decoding():>9.1f} CPU ms")


def median(runs: list[dict[str, Any]], key: str) -> float:
    """The median of a figure over runs."""
    return float(statistics.median(run[key] for run in runs))


def measure(name: str, backbone: str, count: int) -> dict[str, Any]:
    """An engine's tiles a second, CPU milliseconds a tile, and logits, after a first batch."""
    chosen = load_params(ROOT / "params.yaml").backbones[backbone]
    size = chosen.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    answer = ENGINE[name](chosen.architecture, size)
    answer(pixels[:BATCH])
    wall, cpu = time.perf_counter(), time.process_time()
    logits = np.concatenate([answer(batch) for batch in batches(pixels)])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"rate": count / wall, "cpu": 1000 * cpu / count, "logits": logits.tolist()}


def batches(pixels: Pixels) -> Iterator[Pixels]:
    """Tiles by the batch."""
    return (pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH))


def stock(architecture: str, size: int) -> Callable[[Pixels], Floats]:
    """torch, before `capetown.pools.model.devices` is imported."""
    import torch

    from capetown.pools.model.timm_import import timm

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=1).eval()
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    model.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def answer(pixels: Pixels) -> Floats:
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        logits = model(((batch - mean) / std).contiguous(memory_format=torch.channels_last))
        return np.asarray(logits[:, 0].double().numpy())

    return answer


def ready(architecture: str, size: int) -> tuple[Any, Any]:
    """The same model placed as `capetown predict` places it, and its card."""
    import torch

    from capetown.imagery.reading import AS_STORED
    from capetown.pools.dataset.drift import TypicalProfile
    from capetown.pools.model.architecture import create, input_config
    from capetown.pools.model.devices import to_device
    from capetown.pools.model.manifest import ModelManifest

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = to_device(create(architecture, size), torch.device("cpu")).eval()
    card = ModelManifest(
        architecture=architecture, image_size=size, **input_config(model), tiles=AS_STORED,
        typical=TypicalProfile(side=size, resolution=0, dark=False, grey=False),
        classes=["no", "yes"], threshold=0.5, temperature=1, dataset="", packages={},
    )  # fmt: skip
    return model, card


def torch_as_set(architecture: str, size: int) -> Callable[[Pixels], Floats]:
    """torch as `capetown predict` has it."""
    from capetown.pools.model.inference import predict_logits

    model, card = ready(architecture, size)
    return lambda pixels: predict_logits(model, pixels, mean=card.mean, std=card.std)


def torch_compiled(architecture: str, size: int) -> Callable[[Pixels], Floats]:
    """The same, compiled by torch."""
    import torch

    from capetown.pools.model.inference import predict_logits

    model, card = ready(architecture, size)
    model.compile()
    with torch.no_grad():
        return lambda pixels: predict_logits(model, pixels, mean=card.mean, std=card.std)


def onnx_model(architecture: str, size: int) -> bytes:
    """A backbone with random weights as ONNX, from tiles to logits."""
    return as_graph(*ready(architecture, size))


def as_graph(model: Any, card: Any) -> bytes:
    """A model as ONNX, from tiles to logits."""
    import torch

    from capetown.pools.prediction.engine import Graph

    size = card.image_size
    program = torch.onnx.export(
        Graph(model, card).eval(), (torch.zeros(2, 3, size, size, dtype=torch.uint8),),
        dynamo=True, dynamic_shapes=({0: torch.export.Dim("count")},), input_names=["tiles"],
        output_names=["logits"], verbose=False,
    )  # fmt: skip
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def by_onnxruntime(architecture: str, size: int) -> Callable[[Pixels], Floats]:
    """ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(onnx_model(architecture, size), options)
    return lambda pixels: np.asarray(
        session.run(None, {"tiles": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})[0]
    )


def by_openvino(architecture: str, size: int) -> Callable[[Pixels], Floats]:
    """OpenVINO, as `capetown predict` has it."""
    from capetown.pools.prediction.engine import Graph, compile_graph

    model, card = ready(architecture, size)
    return compile_graph(Graph(model, card).eval(), size, THREADS)


def by_eight_bits(architecture: str, size: int) -> Callable[[Pixels], Floats]:
    """OpenVINO on weights and features of 8 bits."""
    shape = (BATCH, size, size, 3)
    seen = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    return quantised(onnx_model(architecture, size), seen)


def quantised(model: bytes, seen: Pixels) -> Callable[[Pixels], Floats]:
    """A graph in 8 bits, their ranges taken from tiles that it is shown, (tiles, size, size, 3)."""
    import openvino
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Tiles(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(batches(seen))

        def get_next(self) -> dict[str, Any] | None:
            return next(({"tiles": to_planes(batch)} for batch in self.left), None)

    with tempfile.TemporaryDirectory() as folder:
        exact, eight = Path(folder, "exact.onnx"), Path(folder, "eight.onnx")
        exact.write_bytes(model)
        quantize_static(exact, eight, Tiles(), quant_format=QuantFormat.QDQ, per_channel=True)
        graph = openvino.Core().read_model(eight)
    graph.reshape([BATCH, 3, *seen.shape[1:3]])
    compiled = openvino.Core().compile_model(
        graph, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS}
    )

    def answer(pixels: Pixels) -> Floats:
        whole = np.concatenate([pixels, np.repeat(pixels[-1:], BATCH - len(pixels), axis=0)])
        return np.asarray(compiled(to_planes(whole))[0], np.float64)[: len(pixels)]

    return answer


def to_planes(pixels: Pixels) -> Pixels:
    """Tiles as ONNX takes them, (tiles, 3, size, size)."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def judge_eight_bits(run: Path, tiles: Path) -> None:
    """Print how a trained model's answers change in 8 bits, on tiles that it did not learn from."""
    import pandas as pd
    import torch
    from sklearn.metrics import roc_auc_score

    from capetown.pools.dataset.dataset import load_fold
    from capetown.pools.dataset.pixel_cache import cache_folder
    from capetown.pools.metrics import calibrated
    from capetown.pools.model.inference import predict_logits
    from capetown.pools.model.manifest import load_model

    model, card = load_model(run / "models", torch.device("cpu"))
    card = card.model_copy(update={"tta": False})
    table = run / "splits" / "tiles.csv"
    folds = {
        name: load_fold(
            table, name, tiles, size=card.image_size, interpolation=card.interpolation,
            cache=cache_folder(), rendering=card.tiles,
        )
        for name in pd.read_csv(table)["fold"].unique()
    }  # fmt: skip
    seen = folds["train"].pixels
    eight = quantised(as_graph(model, card), seen[:: max(1, len(seen) // 128)])
    for name in ("valid", "test"):
        fold = folds[name]
        exact = predict_logits(model, fold.pixels, mean=card.mean, std=card.std)
        rough = np.concatenate([eight(batch) for batch in batches(fold.pixels)])
        one, other = (calibrated(logits, card.temperature) for logits in (exact, rough))
        changed = int(((one >= card.threshold) != (other >= card.threshold)).sum())
        aucs = [f"{roc_auc_score(fold.labels, answers):.4f}" for answers in (one, other)]
        apart = np.abs(one - other)
        print(f"{run}, {name}: ROC AUC {aucs[0]}, in 8 bits {aucs[1]}; {changed} of {len(one)} "
              f"decisions changed, probabilities by {apart.mean():.4f} in the mean and "
              f"{apart.max():.3f} at most")  # fmt: skip


ENGINE: dict[str, Callable[[str, int], Callable[[Pixels], Floats]]] = dict(
    zip(ENGINES, (stock, torch_as_set, torch_compiled, by_onnxruntime, by_openvino, by_eight_bits),
        strict=True)
)  # fmt: skip


def decoding(count: int = 8) -> float:
    """CPU milliseconds to read and resize a tile of the City's size."""
    from capetown.imagery.reading import AS_STORED, read_tile, resize
    from tools.synthetic import make_bucket

    with tempfile.TemporaryDirectory() as folder:
        make_bucket(Path(folder, "b"), requests=100, tiles=count, seed=1, tile_side=1250)
        files = sorted(Path(folder, "b").rglob("*.tif"))
        start = time.process_time()
        for file in files:
            resize(read_tile(file, AS_STORED), 224, "bicubic")
        return 1000 * (time.process_time() - start) / len(files)


if __name__ == "__main__":
    main()
