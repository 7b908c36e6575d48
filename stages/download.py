"""What `download_requests` and `download_tiles` share: they mirror a part of the source into raw/.

Objects arrive under checkpoints/. In raw/ an interrupted download would be lost, because
`dvc exp run` restores a stage's outs before it runs.
"""

import hashlib
import os
from pathlib import Path

from capetown.bucket import Choice, RetentionPolicy, mirror
from capetown.bucket.addresses import WITHOUT_FILE
from capetown.errors import CapetownError
from capetown.imagery.reducing import reduce_tile
from capetown.params import Download
from capetown.timing import step

RAW = Path("raw")


def local(path: str) -> str:
    """Return a path in the repository, also in the temporary workspace of an experiment.

    DVC sets ``DVC_ROOT`` to the repository. A file in the workspace comes first.
    """
    return path if Path(path).exists() else str(Path(os.environ.get("DVC_ROOT", ""), path))


def download(settings: Download, choice: Choice) -> None:
    """Mirror the chosen objects, with tiles reduced to `download.tile_side`."""
    source = settings.bucket or local(settings.folder)
    if not settings.bucket and not Path(source).is_dir():
        fix = "run `dvc pull data.dvc`" if settings.folder == "data" else "set download.folder"
        raise CapetownError("no such folder", where=settings.folder, fix=fix)
    if settings.credentials not in WITHOUT_FILE:
        credentials = local(settings.credentials)
        settings = settings.model_copy(update={"credentials": credentials})
    policy = RetentionPolicy(settings.checksums, settings.tile_side, reduce_tile)
    fingerprint = hashlib.sha256(source.encode()).hexdigest()[:16]
    incoming = Path("checkpoints", f"download-{choice.kind}-{fingerprint}")
    with step("mirror"):
        mirror(source, choice.mirror(RAW), incoming, settings, choice, policy)
