"""Checkpoints, from which an interrupted training resumes.

A checkpoint is written atomically after every epoch. The name of its folder is a fingerprint of all
inputs of the training, so that a training never resumes from the state of another one.
"""

import json
import logging
import os
import shutil
import sys
import time
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from capetown.storage import written_whole

NAME = "last.pt"
MONTH = 30 * 24 * 3600

log = logging.getLogger("capetown")


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, without the build's label (``+cpu``)."""
    return {name: version(name).split("+")[0] for name in ("capetown", "timm", "torch")}


def fingerprint(*inputs: Any) -> str:
    """A digest of a training's inputs, which JSON can hold, and of code and package versions."""
    loaded = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    code = {
        name: sha256(Path(file).read_bytes()).hexdigest()
        for name, file in loaded.items()
        if file and name.split(".")[0] in ("capetown", "stages", "__main__")
    }
    text = json.dumps([inputs, code, package_versions()], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace a folder's checkpoint. A crash or a full disk leaves the old one.

    The state consists of tensors, numbers and texts, in dicts and lists.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / NAME) as part, part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """A folder's checkpoint on the CPU; None if it is missing or damaged. Runs no pickled code."""
    try:
        state: dict[str, Any] = torch.load(folder / NAME, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # torch raises anything on a damaged file
        log.warning("%s is damaged: training starts from the beginning", folder / NAME)
        return None
    return state


def forget_checkpoint(folder: Path) -> None:
    """Remove a finished training's folder, and abandoned ones beside it after a month.

    A param that changes in the middle of a training leaves one behind.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for other in folder.parent.glob(f"*/{NAME}"):
        if time.time() - other.stat().st_mtime > MONTH:
            shutil.rmtree(other.parent, ignore_errors=True)
