"""The outs of a stage: put in place when all are whole, and empty where there was no data."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stages import LOGS, log


@contextmanager
def put_in_place(*outs: Path) -> Iterator[Path]:
    """Make outs beside the last good ones, and put them in place when all are whole.

    Yields a folder to write them in, under their own paths. A run that fails or is killed leaves
    what was there; one that succeeds leaves nothing of it, since each out is replaced as a whole.
    """
    # Beside it in logs/ are folders of experiments, whose names cannot begin with a dot.
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
    """True if `split` was given no tile, so that its table has a header alone."""
    return table.exists() and len(table.read_text(encoding="utf-8").splitlines()) == 1


def write_empty(*outs: Path) -> None:
    """Put outs in place that say nothing: the stage had nothing to work on."""
    log.warning("nothing to do: its part of the data is not in raw/")
    with put_in_place(*outs) as made:
        for out in outs:
            if out.suffix:
                (made / out).write_text("{}\n" if out.suffix == ".json" else "", encoding="utf-8")
            else:
                (made / out).mkdir(parents=True)
                (made / out / ".gitkeep").touch()  # Git and DVC pass over an empty folder


def exchange(paths: Sequence[Path], made: Path, last: Path) -> None:
    """Put new files and folders in place of others of the same file system: all of them or none.

    Args:
        paths: their places, relative to the working directory.
        made: the folder under which each lies by its path.
        last: the folder under which each goes that is there now; it comes back on failure.

    Raises:
        OSError: a new one cannot be put in its place.
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
    """Undo an `exchange` that was killed half-way; nothing if it had not begun.

    Args:
        paths: as they were given to it.
        made: likewise.
        last: likewise.
    """
    if not any((last / path).exists() for path in paths):
        return
    for path in paths:
        if path.exists() and not (made / path).exists():
            path.rename(made / path)
        if (last / path).exists():
            (last / path).rename(path)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C and a polite kill waiting for the moment that renaming takes."""
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
