"""Mirror the source bucket into raw/, verified, with tiles reduced to `download.tile_side`.

Objects arrive under checkpoints/. In raw/ an interrupted download would be lost, because
`dvc exp run` restores a stage's outs before it runs.
"""

import hashlib
import os
from pathlib import Path

from capetown.bucket import RetentionPolicy, mirror
from capetown.bucket.addresses import WITHOUT_FILE
from capetown.errors import CapetownError
from capetown.imagery.reducing import reduce_tile
from capetown.params import load_params
from capetown.timing import step
from stages import run

OUT = Path("raw")


def local(path: str) -> str:
    """Return a path in the repository, also in the temporary workspace of an experiment.

    DVC sets ``DVC_ROOT`` to the repository. A file in the workspace comes first.
    """
    return path if Path(path).exists() else str(Path(os.environ.get("DVC_ROOT", ""), path))


def main() -> None:
    """Write raw/."""
    params = load_params(Path("params.yaml"))
    settings = params.download
    source = settings.source if "://" in settings.source else local(settings.source)
    if "://" not in source and not Path(source).is_dir():
        fix = "run `dvc pull data.dvc`" if settings.source == "data" else "set download.source"
        raise CapetownError("no such folder", where=settings.source, fix=fix)
    if settings.credentials not in WITHOUT_FILE:
        credentials = local(settings.credentials)
        settings = settings.model_copy(update={"credentials": credentials})
    policy = RetentionPolicy(settings.checksums, settings.tile_side, reduce_tile)
    fingerprint = hashlib.sha256(source.encode()).hexdigest()[:16]
    incoming = Path("checkpoints", f"download-{fingerprint}")
    with step("mirror"):
        mirror(source, OUT, incoming, settings, policy)


if __name__ == "__main__":
    run(main)
