"""Files that are whole or not there, and what went wrong with one in a line."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from capetown.errors import CapetownError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name beside a file's to write to; what is written there then takes the file's place.

    If the block fails, the file stays as it was and what was written is removed.

    Raises:
        OSError: the file cannot be put in its place.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def walk_files(root: str) -> Iterator[str]:
    """All files under a folder, also through links to folders, each folder once.

    Raises:
        CapetownError: a folder cannot be listed.
    """

    def _stop(error: OSError) -> None:
        raise CapetownError(f"{error.filename}: cannot be listed ({error.strerror}).")

    seen = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=_stop):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (f"{folder}/{name}" for name in files)


def check_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of what is no regular file: a device, pipe, link, folder.

    Raises:
        CapetownError: something such is there.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CapetownError(f"{path}: is not a regular file and is left alone; name another one.")


def write_file(path: Path, data: bytes) -> None:
    """Write a file in the place of a regular one or none.

    Raises:
        CapetownError: it cannot be written, or something else is there.
    """
    check_replaceable(path)
    try:
        with written_whole(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise CapetownError(f"{path}: cannot be written ({error.strerror}).") from error


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


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's text in a line of `limit` characters at most, with its type if it has no word."""
    text = " ".join(str(error).split())[:limit]
    if any(letter.isalpha() for letter in text):
        return text
    return f"{type(error).__name__} {text}".strip()
