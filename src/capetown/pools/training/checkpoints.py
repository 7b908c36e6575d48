"""Checkpoints, from which an interrupted training goes on.

A checkpoint is written after every epoch, whole or not at all, in a folder named after everything
that shapes the training; whatever changes gives another folder, so a run never goes on from
another's state.
"""

import json
import logging
import os
import shutil
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from capetown.pools.training.calibrate import package_versions
from capetown.storage import written_whole

NAME = "last.pt"
MONTH = 30 * 24 * 3600

log = logging.getLogger("capetown")


def fingerprint(**inputs: Any) -> str:
    """A digest of a training's inputs, of the stage's and the package's code and of the libraries.

    Args:
        inputs: settings and digests of the data, as values that JSON can hold.
    """
    loaded = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    code = {
        name: sha256(Path(file).read_bytes()).hexdigest()
        for name, file in loaded.items()
        if file and name.split(".")[0] in ("capetown", "stages", "__main__")
    }
    text = json.dumps([inputs, code, package_versions()], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace a folder's checkpoint by a new one; a crash or full disk leaves the old one.

    Args:
        folder: made where it is missing.
        state: tensors, numbers, texts, and dicts and lists of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / NAME) as part, part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """A folder's checkpoint on the CPU, or none where there is none; runs no pickled code."""
    try:
        state: dict[str, Any] = torch.load(folder / NAME, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # what torch raises on a damaged file is its own affair
        log.warning("%s is damaged: starting afresh", folder / NAME)
        return None
    return state


def forget_checkpoint(folder: Path) -> None:
    """Remove a finished training's folder, and those beside it that nobody went on from for long.

    Whoever changes a param in the middle of a training leaves one behind.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for other in folder.parent.glob(f"*/{NAME}"):
        if time.time() - other.stat().st_mtime > MONTH:
            shutil.rmtree(other.parent, ignore_errors=True)
