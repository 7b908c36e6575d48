"""Checks before a stage starts: room on the disk, and a model that can be trained."""

import shutil
import subprocess
from pathlib import Path

from capetown.errors import CapetownError
from capetown.params import Backbone, DeviceName

# Bytes. A stage writes its outs beside the last good ones, and DVC's cache keeps them once more.
# The largest backbone, convnext_small_384 with 49 million parameters, takes 1.2 GB that way.
ROOM = 1_500_000_000


def check_room(folder: Path) -> None:
    """Check that the disk of a folder has room for the outs of a stage.

    Raises:
        CapetownError: less than `ROOM` is free.
    """
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        raise CapetownError(
            f"{free / 1e9:.2f} GB are free on this disk, and {ROOM / 1e9:.1f} GB are needed",
            where=folder.resolve(),
            fix="free some: `dvc gc --workspace` removes what only older runs need",
        )


def is_shallow(repository: Path) -> bool:
    """True for a clone without its whole history, as `git clone --depth` makes one."""
    command = ["git", "-C", str(repository), "rev-parse", "--is-shallow-repository"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:  # an export without Git
        return False
    return said.strip() == "true"


def check_history(repository: Path) -> None:
    """Check that DVC can keep what a stage computes in a temporary workspace.

    Raises:
        CapetownError: the clone is shallow. DVC would run every stage and then keep nothing.
    """
    if is_shallow(repository):
        raise CapetownError(
            "the clone is shallow, so DVC would lose this experiment", where=repository.resolve(),
            fix="run `git fetch --unshallow`",
        )  # fmt: skip


def check_model(backbone: Backbone, *, pretrained: bool, device: DeviceName) -> None:
    """Check that a model can be trained: its architecture, weights and device.

    It imports torch only if the answer needs it.

    Raises:
        CapetownError: timm has no such architecture, its weights are missing and cannot be
            downloaded, or this machine has no such device.
    """
    from capetown.pools.model.pretrained import check_weights, weights_available

    if not weights_available(backbone.architecture):
        check_weights(backbone, pretrained=pretrained)
    if device not in ("auto", "cpu"):
        from capetown.pools.model.devices import choose_device

        choose_device(device)
