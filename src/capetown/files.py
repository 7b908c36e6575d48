"""Files that are whole or not there, and what went wrong with one in a line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def replace_folder(made: Path, folder: Path, last: Path) -> None:
    """Put a folder in place of another of the same file system.

    Args:
        made: the new folder.
        folder: its place.
        last: where the folder goes that is there now; it comes back if the new one cannot be put
            in its place.

    Raises:
        OSError: the new folder cannot be put in its place.
    """
    if folder.exists():
        folder.rename(last)
    try:
        made.rename(folder)
    except OSError:
        if last.exists():
            last.rename(folder)
        raise


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's text as one line of at most `limit` characters; its type if it says nothing."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
