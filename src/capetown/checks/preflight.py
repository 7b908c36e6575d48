"""Checks of a stage before it touches an out: everything that can be known to be wrong by then.

Quick when all is well: torch and timm are loaded only where the answer needs them.
"""

import shutil
from pathlib import Path

from capetown.errors import CapetownError
from capetown.params import Params

# Bytes: an out is written beside the last good one, and DVC's cache takes it once more. The largest
# of the backbones, convnext_small_384 of 49 million parameters, takes 1.2 GB so, its checkpoint
# included.
ROOM = 1_500_000_000


def check_before_stage(params: Params, folder: Path, *, trains: bool) -> None:
    """Look for what would stop the pipeline later.

    Args:
        params: already valid.
        folder: where outs are written.
        trains: training may follow, so that its weights and device are needed.

    Raises:
        CapetownError: the disk is nearly full, or training could not start.
    """
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        raise CapetownError(
            f"{folder.resolve()}: {free / 1e9:.2f} GB free on this disk, {ROOM / 1e9:.1f} GB are "
            "needed; free some: `dvc gc --workspace` removes what only older runs need."
        )
    if trains:
        _check_start(params)


def _check_start(params: Params) -> None:
    from capetown.pools.model.pretrained import check_weights, weights_available

    if not weights_available(params.backbone.architecture):
        check_weights(params.backbone, pretrained=params.pretrained)
    if params.device not in ("auto", "cpu"):
        from capetown.pools.model.devices import choose_device

        choose_device(params.device)
