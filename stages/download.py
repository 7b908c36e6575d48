"""Mirror the source bucket into raw/: whole, verified, its tiles as large as they need be.

What arrives waits under checkpoints/ until all is there: before a stage runs, `dvc exp run` puts
its outs back as they were, which would undo an interrupted download.
"""

import hashlib
import os
from pathlib import Path

from capetown.bucket import RetentionPolicy, mirror
from capetown.bucket.access import WITHOUT_FILE
from capetown.errors import CapetownError
from capetown.imagery.reducing import reduce_tile
from capetown.params import load_params
from capetown.timing import step
from stages import run

OUT = Path("raw")


def local(path: str) -> str:
    """A path relative to the repository's root, also from an experiment's temporary workspace.

    DVC names the root in ``DVC_ROOT``. What the workspace has itself comes first.
    """
    return path if Path(path).exists() else str(Path(os.environ.get("DVC_ROOT", ""), path))


def main() -> None:
    """Run the stage."""
    params = load_params(Path("params.yaml"))
    settings = params.download
    source = settings.source if "://" in settings.source else local(settings.source)
    if "://" not in source and not Path(source).is_dir():
        fix = "run `dvc pull data.dvc`" if settings.source == "data" else "set download.source"
        raise CapetownError(f"{settings.source}: no such folder; {fix}.")
    if settings.credentials not in WITHOUT_FILE:
        credentials = local(settings.credentials)
        settings = settings.model_copy(update={"credentials": credentials})
    keeping = RetentionPolicy(settings.checksums, settings.tile_side, reduce_tile)
    fingerprint = hashlib.sha256(source.encode()).hexdigest()[:16]
    incoming = Path("checkpoints", f"download-{fingerprint}")
    with step("mirror"):
        mirror(source, OUT, incoming, settings, keeping)


if __name__ == "__main__":
    run(main)
