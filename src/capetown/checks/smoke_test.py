"""A smoke test of a backbone: the whole pipeline on two made-up tiles, in a subprocess.

Some architectures fail when they are built, trained, saved or explained. A few crash::

    python -m capetown.checks.smoke_test '{"backbone": {"architecture": "resnet18", …}, …}'
"""

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from capetown.errors import CapetownError, one_line
from capetown.imagery.reading import AS_STORED
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.evaluation.saliency_map import saliency_map
from capetown.pools.model.devices import choose_device
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import load_model, save_model
from capetown.pools.training.calibrate import calibrate
from capetown.pools.training.fit_one import TrainingConfig, fit_one

TIMEOUT = 600


def run_in_subprocess(config: TrainingConfig, seconds: float = TIMEOUT) -> None:
    """Run the smoke test in a subprocess, so that its crash is an error here.

    Raises:
        CapetownError: the smoke test failed.
    """
    command = [sys.executable, "-m", __name__, config.model_dump_json()]
    architecture = config.backbone.architecture
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CapetownError(
            f"one step of {architecture} takes over {seconds} s here",
            where="backbones",
            fix="choose a smaller one, or lower its image_size or batch_size",
        ) from error
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise _unusable(f"{architecture} crashes its process ({name}) on this machine")
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or ["the smoke test failed without a message"]
        raise CapetownError(lines[-1].removeprefix("error: "))


def run(config: TrainingConfig) -> None:
    """Train an epoch of each phase, calibrate, save, load, predict and explain.

    Raises:
        CapetownError: one of them failed.
    """
    size, device = config.image_size, choose_device(config.device)
    # A full batch shows whether it fits into a GPU's memory. A CPU has enough, but is slow.
    count = max(2, config.backbone.batch_size) if device.type == "cuda" else 2
    tiles = LabelledTiles(
        paths=[f"{n}.tif" for n in range(count)],
        sheets=np.arange(count).astype(str),
        groups=np.arange(count).astype(str),
        labels=np.arange(count) % 2,
        pixels=np.random.default_rng(config.seed).integers(
            0, 256, (count, size, size, 3), np.uint8
        ),
        digest="",
    )
    epochs = {"head_epochs": min(1, config.settings.head_epochs), "epochs": 1}
    config = config.model_copy(update={"settings": config.settings.model_copy(update=epochs)})
    model, *_ = fit_one(config, tiles, tiles, checkpoints=None)
    typical = TypicalProfile(side=size, resolution=0, dark=False, grey=False)
    manifest = calibrate(model, tiles, tiles, config, AS_STORED, typical)
    with TemporaryDirectory() as folder:
        save_model(Path(folder), model, manifest)
        loaded, manifest = load_model(Path(folder), device)
    before, after = (
        predict_logits(m, tiles.pixels, mean=manifest.mean, std=manifest.std)
        for m in (model, loaded)
    )
    if not np.allclose(before, after, atol=1e-4):
        raise _unusable(f"{manifest.architecture} predicts something else once saved and loaded")
    heat = saliency_map(loaded, manifest, tiles.pixels[0], towards_yes=True)
    if not np.isfinite(heat).all():
        raise _unusable(f"{manifest.architecture} has no saliency map")


def _unusable(what: str) -> CapetownError:
    return CapetownError(what, where="backbones", fix="choose another one")


def main() -> None:
    """Run the smoke test of a config in JSON. A failure is one line and exit status 1."""
    config = TrainingConfig.model_validate_json(sys.argv[1])
    try:
        run(config)
    except CapetownError as error:
        sys.exit(f"error: {error}")
    except Exception as error:  # architectures raise anything
        reason = one_line(error) or type(error).__name__
        architecture = config.backbone.architecture
        sys.exit(f"error: {_unusable(f'{architecture} cannot be trained ({reason})')}")


if __name__ == "__main__":
    main()
