"""New tiles, found wherever they lie: files, folders, globs, prefixes of buckets, lists of these.

What a folder's listing says of a file is kept: its size and date, so that a run can tell whether
it goes on with the same inputs, and the world file beside it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from capetown.errors import CapetownError, one_line
from capetown.imagery.tile_ref import TileRef
from capetown.storage import absolute, is_local, open_storage, read_file, walk_files

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
# Images that can be read, too, and that a folder does not stand for.
OTHER_IMAGES = (".jp2", ".webp", ".bmp", ".gif")


class Found(NamedTuple):
    """What is at a path: the files, and how many other images there are."""

    sources: list[TileRef]
    others: int


class Listing:
    """What is known of files, by the names that a file system has for them.

    Attributes:
        infos: what fsspec says of each.
        names: each by its name in small letters.
    """

    def __init__(self, infos: Mapping[str, Mapping[str, Any]]) -> None:
        self.infos = infos
        self.names = {name.lower(): name for name in infos}


def find_inputs(paths: Sequence[str]) -> Iterator[tuple[str, Found]]:
    """The tiles at paths, one path after the other, sorted within each.

    A folder or a bucket's prefix stands for all TIFF, PNG and JPEG files in it, however deep, and
    in folders that links in it lead to; a glob for those that match; a file for itself, whatever
    its name; ``@list.txt`` for the files that it names, one a line and in its order, whether they
    are there or not.

    Raises:
        CapetownError: if there is nothing at a path, or no tile, or it cannot be listed.
    """
    folders: dict[str, Listing] = {}
    for path in paths:
        try:
            found = _listed(path[1:], folders) if path.startswith("@") else _found(path, folders)
        except CapetownError:
            raise
        except FileNotFoundError as error:
            raise CapetownError(f"{path}: nothing there, or out of reach.") from error
        except Exception as error:  # every file system fails in its own way
            raise CapetownError(f"{path}: cannot be listed ({one_line(error)}).") from error
        if not found.sources:
            more = f"; {left_out(found.others)}" if found.others else ""
            raise CapetownError(f"{path}: no tile (TIFF, PNG or JPEG) there{more}.")
        yield path, found


def left_out(others: int) -> str:
    """What is said of images that a path does not stand for."""
    return f"{others} other images are left out, which can be named one by one"


def inputs_digest(sources: Iterable[TileRef], how: str) -> str:
    """A digest of sources and of how they are judged, in any words.

    It is another one if a source is added, moved, changed or cut otherwise.
    """
    digest = sha256(how.encode())
    for source in sources:
        digest.update(f"{tuple(source)}\n".encode())
    return digest.hexdigest()


def _found(path: str, folders: dict[str, Listing]) -> Found:
    fs, root = open_storage(path)
    if is_glob(root) and not fs.exists(root):
        matched = fs.glob(root, detail=True)
        return _images(path, fs, {k: v for k, v in matched.items() if v["type"] != "directory"})
    info = fs.info(root)
    if info["type"] == "directory":
        return _images(
            path,
            fs,
            {name: {} for name in walk_files(root)} if is_local(fs) else fs.find(root, detail=True),
        )
    if is_local(fs):
        return Found([_source(path, fs, root, _folder_of(fs, root, folders))], 0)
    beside = Listing({root: info} | {n: fs.info(n) for n in _sidecars(root) if fs.exists(n)})
    return Found([_source(path, fs, root, beside)], 0)


def is_glob(path: str) -> bool:
    """True if a path has a wildcard in it."""
    return any(sign in path for sign in "*?[")


def _listed(path: str, folders: dict[str, Listing]) -> Found:
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CapetownError(f"{path}: not a list of files: not UTF-8.") from error
    named = [line.strip() for line in lines if line.strip()]
    if not named:
        raise CapetownError(f"{path}: names no file; write one a line.")
    sources = []
    for name in named:
        fs, location = open_storage(name)
        sources.append(_source(name, fs, location, _folder_of(fs, location, folders)))
    return Found(sources, 0)


def _folder_of(fs: Any, location: str, folders: dict[str, Listing]) -> Listing:
    """The files beside one, each folder listed once; none if it cannot be listed."""
    folder = location.rpartition("/")[0]
    key = fs.unstrip_protocol(folder)
    if key not in folders:
        try:
            infos = {info["name"]: info for info in fs.ls(folder, detail=True)}
        except Exception:  # a server that lists nothing may have the file all the same
            infos = {}
        folders[key] = Listing(infos)
    return folders[key]


def _images(path: str, fs: Any, infos: Mapping[str, Mapping[str, Any]]) -> Found:
    """The tiles among files that a folder or a glob stands for."""
    listing, root = Listing(infos), open_storage(path)[1]
    others = sum(name.lower().endswith(OTHER_IMAGES) for name in infos)
    sources = []
    for name in sorted(name for name in infos if name.lower().endswith(SUFFIXES)):
        if "://" in path:
            shown = fs.unstrip_protocol(name)
        elif is_glob(path):
            shown = name if Path(path).is_absolute() else os.path.relpath(name)
        else:
            shown = str(Path(path, Path(name).relative_to(root)))
        sources.append(_source(shown, fs, name, listing))
    return Found(sources, others)


def _source(shown: str, fs: Any, location: str, beside: Listing) -> TileRef:
    """A tile with what is known of it and of what lies beside it."""

    def url(name: str) -> str:
        return absolute(name) if is_local(fs) or not name else str(fs.unstrip_protocol(name))

    *worlds, prj = (beside.names.get(name.lower(), "") for name in _sidecars(location))
    world = next(filter(None, worlds), "")
    try:
        shown.encode()
    except UnicodeEncodeError as error:
        raise CapetownError(f"{shown!r}: the name is not UTF-8; rename the file.") from error
    size, mark = _state(fs, location, beside.infos.get(location, {}))
    for name in filter(None, (world, prj)):
        mark += " {}, {}".format(*_state(fs, name, beside.infos.get(name, {})))
    return TileRef(shown, url(location), size, mark, url(world), url(prj))


def _state(fs: Any, location: str, info: Mapping[str, Any]) -> tuple[int, str]:
    """The size and the mark of a file."""
    if is_local(fs):
        try:
            status = Path(location).stat()
        except OSError:
            return 0, ""
        return status.st_size, str(status.st_mtime_ns)
    mark = info.get("ETag") or info.get("LastModified") or info.get("mtime") or ""
    return int(info.get("size") or 0), str(mark)


def _sidecars(location: str) -> list[str]:
    """Names that an image's world file may have, in order, and that of the file of its CRS."""
    suffix = PurePosixPath(location).suffix
    stem = location.removesuffix(suffix)
    worlds = [f"{suffix[:2]}{suffix[-1]}w", f"{suffix}w", ".wld"] if suffix else [".wld"]
    return [stem + ending for ending in (*worlds, ".prj")]
