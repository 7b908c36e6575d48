"""Read, list and write files by path or URL. A file is written completely or not at all.

Paths are local. URLs are those of fsspec, such as ``s3://bucket/key``.
"""

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from capetown.errors import CapetownError, one_line

# Environment variables that provide AWS credentials.
CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"}
# A spreadsheet takes a text with such a start for a formula. OWASP advises to put an apostrophe
# before it. That is done in tables for people: the CSV output of `predict`, hexes/requests.csv, and
# splits/, whose `sheet` reaches metrics/sheets.csv. Other CSV files begin no text with a name from
# outside: paths there start with the tiles' folder. Inventories in raw/ repeat the City's values
# exactly, for programs.
FORMULA = r"^([=+\-@\t\r\n＝＋－＠])"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside a file; on success the new file replaces the old one.

    If the block fails, the old file stays and the temporary one is removed.

    Raises:
        OSError: the file cannot be replaced.
    """
    # Process numbers repeat: containers and other machines may share the folder.
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path, first: str, *others: str) -> Iterator[Path]:
    """Yield a temporary folder beside a folder; on success the new one replaces the old one.

    If the block fails, the old one stays and the temporary one is removed.

    Args:
        folder: does not exist, is empty, or holds a file called `first` and nothing but `others`.
        first: the name of a file that only this block writes.
        others: names of its other files.

    Raises:
        CapetownError: the folder holds other things, or is a file or a link.
        OSError: the folder cannot be made or replaced.
    """
    _check_folder(folder, first, others)
    beside = folder.absolute().with_name(f".{folder.name}.{token_hex(4)}.part")
    part, old = beside / "new", beside / "old"
    try:
        beside.mkdir()
        part.mkdir()
        yield part
        _check_folder(folder, first, others)
        if folder.exists():
            folder.rename(old)
        try:
            part.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        rmtree(beside, ignore_errors=True)


def _check_folder(folder: Path, first: str, others: Collection[str]) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise CapetownError("is not a folder and is left alone", where=folder, fix="name another")
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    # Without `first`, files of the same names are another command's.
    strange = sorted(found - {first, *others} if first in found else found)
    if strange:
        raise CapetownError(
            f"has {strange[0]!r} in it and is left alone", where=folder,
            fix="name an empty or new folder",
        )  # fmt: skip


def check_replaceable(path: Path) -> None:
    """Refuse to replace anything but a regular file: a device, pipe, link or folder.

    A GeoPackage in use is not replaced either.

    Raises:
        CapetownError: the path is one of these.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CapetownError(
            "is not a regular file and is left alone", where=path, fix="name another one"
        )
    if path.suffix == ".gpkg":
        _check_unused(path)


def _check_unused(path: Path) -> None:
    """Refuse to replace a SQLite file that is read-only, or that another program has open.

    SQLite applies the changes in the files beside it to whatever file has this name.
    """
    for end in ("-wal", "-shm", "-journal"):
        if (beside := path.with_name(path.name + end)).exists():
            raise CapetownError(
                f"is open in another program, to which {beside.name} belongs", where=path,
                fix="close it there, or name another file",
            )  # fmt: skip
    if not path.exists():
        return
    if not path.stat().st_mode & 0o222:
        raise CapetownError(
            "is read-only and is left alone", where=path,
            fix="make it writable, or name another file",
        )  # fmt: skip
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(uri, timeout=0, uri=True)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise CapetownError(
                f"cannot be replaced ({one_line(error)})", where=path,
                fix="close it in other programs, or name another file",
            ) from error  # fmt: skip


def write_file(url: str | Path, data: bytes) -> None:
    """Write a file to an existing folder. It appears when it is whole.

    Raises:
        CapetownError: it cannot be written, or a local path is not a regular file.
    """
    try:
        fs, location = open_storage(str(url))
        if not is_local(fs):
            fs.pipe_file(location, data)
            return
        check_replaceable(Path(location))
        with written_whole(Path(location)) as part:
            part.write_bytes(data)
    except CapetownError:
        raise
    except Exception as error:  # any kind, depending on the file system
        raise unwritable(str(url), error) from error


def unwritable(url: str, error: Exception) -> CapetownError:
    """The error for a file that cannot be written."""
    why = getattr(error, "strerror", None) or one_line(error)
    return CapetownError(f"cannot be written ({why})", where=url)


def read_file(url: str) -> bytes:
    """The bytes of a file.

    Raises:
        Exception: any kind, depending on the file system.
    """
    fs, location = open_storage(url)
    return bytes(fs.cat_file(location))


def read_start(url: str, size: int) -> bytes:
    """The first bytes of a file, at most `size`. Errors are those of `read_file`."""
    fs, location = open_storage(url)
    with fs.open(location, "rb") as file:
        return bytes(file.read(size))


def walk_files(root: str) -> Iterator[str]:
    """All files below a local folder. Links to folders are followed, each folder once.

    Raises:
        CapetownError: a folder cannot be listed.
    """

    def _stop(error: OSError) -> None:
        raise CapetownError(f"cannot be listed ({error.strerror})", where=error.filename)

    seen = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=_stop):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (f"{folder}/{name}" for name in files)


def open_storage(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the location within it.

    Access is anonymous unless the environment has AWS credentials or a profile.
    ``AWS_ENDPOINT_URL`` selects another server.
    """
    if "://" not in url:  # fsspec would read `a::b.png` as a chain of file systems
        return LocalFileSystem(), str(LocalFileSystem._strip_protocol(url))
    anonymous = url.startswith("s3://") and not CREDENTIALS & set(os.environ)
    fs, location = url_to_fs(url, **({"anon": True} if anonymous else {}))
    return fs, str(location)


def is_local(fs: Any) -> bool:
    """True for the local file system, whose locations are paths."""
    return isinstance(fs, LocalFileSystem)


def absolute(path: str) -> str:
    """A path or URL that does not depend on the working directory."""
    return path if "://" in path or not path else str(Path(path).expanduser().absolute())


def names_in(url: str) -> set[str]:
    """The names in a folder; empty if the folder is missing."""
    fs, location = open_storage(url)
    fs.invalidate_cache()
    try:
        return {name.rstrip("/").rpartition("/")[2] for name in fs.ls(location, detail=False)}
    except FileNotFoundError:
        return set()


def size_of(url: str) -> int | None:
    """The size of a file in bytes; None if it is missing."""
    fs, location = open_storage(url)
    fs.invalidate_cache()
    try:
        return int(fs.info(location)["size"])
    except FileNotFoundError:
        return None


def make_folder(url: str) -> None:
    """Make a local folder in an existing one. Buckets need no folders.

    Raises:
        CapetownError: it cannot be made.
    """
    fs, location = open_storage(url)
    if is_local(fs):
        try:
            Path(location).mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(url, error) from error


def remove_folder(url: str) -> None:
    """Remove a folder with its content, if it exists."""
    fs, location = open_storage(url)
    fs.invalidate_cache()
    if fs.exists(location):
        fs.rm(location, recursive=True)
