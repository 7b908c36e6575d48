"""One step of everything that a pipeline does with a backbone, in a process of its own.

Some architectures fail when they are built, in their first step, when they are saved or explained,
and a few take the whole process with them. Here all of that happens on two made-up tiles::

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
from capetown.params import Backbone, DeviceName, Section, Train
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.evaluation.saliency_map import saliency_map
from capetown.pools.model.architecture import build_model, input_config
from capetown.pools.model.devices import choose_device, make_repeatable, to_device
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import load_model, save_model
from capetown.pools.training.calibrate import calibrate
from capetown.pools.training.loop import Training
from capetown.pools.training.schedules import phases

SECONDS = 600


class SmokeTest(Section):
    """Settings of a training that shape its steps."""

    backbone: Backbone
    settings: Train
    pretrained: bool
    seed: int
    threads: int
    device: DeviceName


def run_in_subprocess(trial: SmokeTest, seconds: float = SECONDS) -> None:
    """Try in a process of its own, so that a crash of it is an error here.

    Raises:
        CapetownError: what failed, and what to do about it.
    """
    command = [sys.executable, "-m", __name__, trial.model_dump_json()]
    architecture = trial.backbone.architecture
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CapetownError(
            f"backbones: one step of {architecture} takes over {seconds} s here: choose a smaller "
            "one, or lower its image_size or batch_size."
        ) from error
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise CapetownError(
            f"backbones: {architecture} crashes its process ({name}) on this machine: choose "
            "another one."
        )
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        raise CapetownError(said.removeprefix("error: "))


def run(trial: SmokeTest) -> None:
    """Build the model, take a step of each phase, save, load, predict and explain.

    Raises:
        CapetownError: what failed.
    """
    backbone, settings = trial.backbone, trial.settings
    make_repeatable(trial.threads)
    device = choose_device(trial.device)
    size = settings.image_size or backbone.image_size
    model = build_model(
        backbone, image_size=size, pretrained=trial.pretrained, seed=trial.seed,
        inputs=settings.model_dump(include={"interpolation", "mean", "std"}),
    )  # fmt: skip
    model = to_device(model, device)
    # A GPU's memory is looked at, too; a CPU's is seldom short, and its time is. Both classes are
    # there, a step apart if batches are of one.
    count = max(2, backbone.batch_size) if device.type == "cuda" else 2
    tiles = LabelledTiles(
        paths=[f"{n}.tif" for n in range(count)],
        sheets=np.arange(count).astype(str),
        groups=np.arange(count).astype(str),
        labels=np.arange(count) % 2,
        pixels=np.random.default_rng(trial.seed).integers(0, 256, (count, size, size, 3), np.uint8),
        digest="",
    )
    inputs = input_config(model)
    mean, std = inputs["mean"], inputs["std"]
    for phase in phases(settings, backbone):
        training = Training(model, phase, tiles, backbone, settings)
        training.run_epoch(phase.first, trial.seed)
        predict_logits(training.judged, tiles.pixels, mean=mean, std=std)
    card = calibrate(
        model, tiles, tiles, backbone, settings, AS_STORED,
        TypicalProfile(side=size, resolution=0, dark=False, grey=False),
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        save_model(Path(folder), model, card)
        loaded, card = load_model(Path(folder), device)
    before, after = (predict_logits(m, tiles.pixels, mean=mean, std=std) for m in (model, loaded))
    if not np.allclose(before, after, atol=1e-4):
        raise CapetownError(f"backbones: {backbone.architecture} differs once saved and loaded.")
    heat = saliency_map(loaded, card, tiles.pixels[0], towards_yes=True)
    if not np.isfinite(heat).all():
        raise CapetownError(f"backbones: {backbone.architecture} cannot be explained.")


def main() -> None:
    """Run the trial that is given as JSON; what fails is one line and exit status 1."""
    trial = SmokeTest.model_validate_json(sys.argv[1])
    try:
        run(trial)
    except CapetownError as error:
        sys.exit(f"error: {error}")
    except Exception as error:  # each architecture fails in its own way
        sys.exit(
            f"error: backbones: {trial.backbone.architecture} cannot be trained "
            f"({one_line(error) or type(error).__name__}); choose another one."
        )


if __name__ == "__main__":
    main()
