"""Files of any kind of storage, by path or URL: read, listed, and written whole or not at all."""

import os
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from capetown.errors import CapetownError
from capetown.files import one_line, written_whole

# What says that the environment has credentials of AWS's.
CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"}


def open_storage(url: str) -> tuple[Any, str]:
    """fsspec's file system of a path or URL, and what that calls it.

    A bucket is used anonymously unless the environment has AWS credentials or names a profile; on
    another server than AWS's if the environment names one in ``AWS_ENDPOINT_URL``.
    """
    anonymous = url.startswith("s3://") and not CREDENTIALS & set(os.environ)
    fs, location = url_to_fs(url, **({"anon": True} if anonymous else {}))
    return fs, str(location)


def is_local(fs: Any) -> bool:
    """True if a file system is this machine's, so that a location is a path."""
    return isinstance(fs, LocalFileSystem)


def absolute(path: str) -> str:
    """A path or URL that means the same in every working directory."""
    return path if "://" in path or not path else str(Path(path).expanduser().absolute())


def read_file(url: str) -> bytes:
    """The bytes of a file.

    Raises:
        Exception: of any kind, as its file system fails.
    """
    fs, location = open_storage(url)
    return bytes(fs.cat_file(location))


def write_file(url: str, data: bytes) -> None:
    """Write a file that is whole as soon as it is there; its folder exists.

    Raises:
        CapetownError: it cannot be written.
    """
    try:
        fs, location = open_storage(url)
        if not is_local(fs):
            fs.pipe_file(location, data)
            return
        with written_whole(Path(location)) as part:
            part.write_bytes(data)
    except Exception as error:  # every file system fails in its own way
        raise unwritable(url, error) from error


def unwritable(url: str, error: Exception) -> CapetownError:
    """The error of a file that cannot be written."""
    why = getattr(error, "strerror", None) or one_line(error)
    return CapetownError(f"{url}: cannot be written ({why}).")


def names_in(url: str) -> set[str]:
    """The names of what is in a folder; none if there is no such folder."""
    fs, location = open_storage(url)
    fs.invalidate_cache()
    try:
        return {name.rstrip("/").rpartition("/")[2] for name in fs.ls(location, detail=False)}
    except FileNotFoundError:
        return set()


def size_of(url: str) -> int | None:
    """The size of a file in bytes; None if there is none."""
    fs, location = open_storage(url)
    fs.invalidate_cache()
    try:
        return int(fs.info(location)["size"])
    except FileNotFoundError:
        return None


def make_folder(url: str) -> None:
    """Make a folder where it is missing, in one that exists; a bucket has none to make.

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
    """Remove a folder with all that is in it, if it is there."""
    fs, location = open_storage(url)
    fs.invalidate_cache()
    if fs.exists(location):
        fs.rm(location, recursive=True)
