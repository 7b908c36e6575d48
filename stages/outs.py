"""Atomic replacement of a stage's outs, and empty outs where there was no data."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from capetown.errors import CapetownError
from stages import LOGS, log


@contextmanager
def put_in_place(*outs: Path) -> Iterator[Path]:
    """Replace outs atomically: on failure all the previous ones stay, on success all are new.

    Yields a folder to write the new outs in, under their own paths.
    """
    # logs/ also holds folders of experiments. Their names cannot begin with a dot.
    prefix = f".outs-{outs[0].name}-"
    for killed in LOGS.glob(f"{prefix}*/"):
        give_back(outs, killed / "made", killed / "last")
        shutil.rmtree(killed, ignore_errors=True)
    LOGS.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=LOGS, prefix=prefix, ignore_cleanup_errors=True) as folder:
        made, last = Path(folder, "made"), Path(folder, "last")
        for out in outs:
            (made / out).parent.mkdir(parents=True, exist_ok=True)
        yield made
        with _uninterrupted():
            exchange(outs, made, last)


def has_no_tile(table: Path) -> bool:
    """Return True if the table of `split` has a header and no tile."""
    return table.exists() and len(table.read_text(encoding="utf-8").splitlines()) == 1


def keep_results(kind: Literal["requests", "tiles"]) -> None:
    """Refuse to go on without requests, or without tiles, if a run with them left results.

    Raises:
        CapetownError: hexes/, or models/, has results. Empty outs would replace them.
    """
    folder, other = {"requests": ("hexes", "evaluate"), "tiles": ("models", "transform")}[kind]
    if any(path.name != ".gitkeep" for path in Path(folder).glob("*")):
        raise CapetownError(
            f"has results of {kind}, and this run has no {kind}", where=f"{folder}/",
            fix=f"to keep them, set download.{kind} again and run `dvc repro {other}`; to go on "
            f"without, remove {folder}/ and run `dvc repro`",
        )  # fmt: skip


def write_empty(*outs: Path) -> None:
    """Write empty outs: raw/ has no data for this stage."""
    log.warning("nothing to do: raw/ has no data for this stage")
    with put_in_place(*outs) as made:
        for out in outs:
            if out.suffix:
                (made / out).write_text("{}\n" if out.suffix == ".json" else "", encoding="utf-8")
            else:
                (made / out).mkdir(parents=True)
                (made / out / ".gitkeep").touch()  # Git and DVC ignore an empty folder


def exchange(paths: Sequence[Path], made: Path, last: Path) -> None:
    """Replace files and folders by new ones: all of them, or none.

    All folders lie on one file system.

    Args:
        paths: what to replace, relative to the working directory.
        made: holds the new ones under the same paths.
        last: receives the previous ones under the same paths. They come back on failure.

    Raises:
        OSError: one of them cannot be replaced.
    """
    placed = []
    try:
        for path in paths:
            for folder in (path.parent, (last / path).parent):
                folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.rename(last / path)
            (made / path).rename(path)
            placed.append(path)
    except OSError:
        for path in placed:
            path.rename(made / path)
        for path in paths:
            if (last / path).exists():
                (last / path).rename(path)
        raise


def give_back(paths: Sequence[Path], made: Path, last: Path) -> None:
    """Undo an `exchange` that was killed halfway. The arguments are those of `exchange`."""
    if not any((last / path).exists() for path in paths):
        return
    for path in paths:
        if path.exists() and not (made / path).exists():
            path.rename(made / path)
        if (last / path).exists():
            (last / path).rename(path)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM while files are renamed."""
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
