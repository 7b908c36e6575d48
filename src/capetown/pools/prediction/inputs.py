"""Find the tiles to predict: files, folders, globs, prefixes of buckets, lists and orthophotos.

A reference keeps what the listing says of a file: its size and date, by which a run knows whether
it resumes with the same inputs, and its world file.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from capetown.errors import CapetownError, one_line
from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import Tiling, windows_of
from capetown.storage import absolute, is_local, open_storage, read_file, walk_files

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
# Images that are readable but that folders and globs do not select.
OTHER_IMAGES = (".jp2", ".webp", ".bmp", ".gif")
# Orthophotos opened at once to read their sizes.
OPENERS = 8

log = logging.getLogger("capetown")
Info = Mapping[str, Any]


class Listing:
    """The files of a folder, prefix or glob: fsspec's information, and names by lower case."""

    def __init__(self, infos: Mapping[str, Info]) -> None:
        self.infos = infos
        self.names = {name.lower(): name for name in infos}


def find_tiles(paths: Sequence[str], tiling: Tiling) -> list[TileRef]:
    """The result of `find_files`, cut into windows if a window size is given."""
    files = list(find_files(paths))
    if not (tiling.metres or tiling.pixels):
        return files
    with ThreadPoolExecutor(OPENERS) as pool:
        return list(chain.from_iterable(pool.map(lambda file: windows_of(file, tiling), files)))


def find_files(paths: Sequence[str]) -> Iterator[TileRef]:
    """The files at some paths, in the order of the paths, sorted within each.

    A folder or a bucket's prefix selects all its TIFF, PNG and JPEG files, recursively and through
    links; a glob selects those that match; a file selects itself, whatever its name;
    ``@list.txt`` selects the files it names, one per line and in its order, even missing ones.

    Raises:
        CapetownError: a path has no tile or cannot be listed.
    """
    folders: dict[str, Listing] = {}
    for path in paths:
        try:
            at = _listed if path.startswith("@") else _found
            found, others = at(path.removeprefix("@"), folders)
        except CapetownError:
            raise
        except FileNotFoundError as error:
            raise CapetownError("not found or unreachable", where=path) from error
        except Exception as error:  # each file system fails in its own way
            raise CapetownError(f"cannot be listed ({one_line(error)})", where=path) from error
        left_out = f"{others} images of other formats are left out"
        if not found:
            more = f" ({left_out})" if others else ""
            raise CapetownError(
                f"no TIFF, PNG or JPEG file{more}", where=path, fix="name the tiles one by one"
            )
        if others:
            log.warning("%s: %s; name them one by one", path, left_out)
        yield from found


def inputs_digest(tiles: Iterable[TileRef], settings: str) -> str:
    """A digest of tiles and settings: it changes if a tile is added, moved, changed or recut."""
    digest = sha256(settings.encode())
    for tile in tiles:
        digest.update(f"{tuple(tile)}\n".encode())
    return digest.hexdigest()


def _found(path: str, folders: dict[str, Listing]) -> tuple[list[TileRef], int]:
    """The tiles at a path, and the number of other images."""
    fs, root = open_storage(path)
    if is_glob(root) and not fs.exists(root):
        matched = fs.glob(root, detail=True)
        return _images(path, fs, {k: v for k, v in matched.items() if v["type"] != "directory"})
    info = fs.info(root)
    if info["type"] == "directory":
        local = is_local(fs)
        below = {name: {} for name in walk_files(root)} if local else fs.find(root, detail=True)
        return _images(path, fs, below)
    if is_local(fs):
        return [_reference(path, fs, root, _folder_of(fs, root, folders))], 0
    beside = Listing({root: info} | {n: fs.info(n) for n in _sidecars(root) if fs.exists(n)})
    return [_reference(path, fs, root, beside)], 0


def is_glob(path: str) -> bool:
    """True if a path has a wildcard."""
    return any(sign in path for sign in "*?[")


def _listed(path: str, folders: dict[str, Listing]) -> tuple[list[TileRef], int]:
    """The tiles that a list names, and 0."""
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CapetownError("not UTF-8 text", where=path) from error
    found = []
    for name in filter(None, map(str.strip, lines)):
        fs, location = open_storage(name)
        found.append(_reference(name, fs, location, _folder_of(fs, location, folders)))
    if not found:
        raise CapetownError("empty list", where=path, fix="write one file per line")
    return found, 0


def _folder_of(fs: Any, location: str, folders: dict[str, Listing]) -> Listing:
    """The listing of a file's folder, made once; empty if the folder cannot be listed."""
    folder = location.rpartition("/")[0]
    key = fs.unstrip_protocol(folder)
    if key not in folders:
        try:
            infos = {info["name"]: info for info in fs.ls(folder, detail=True)}
        except Exception:  # a server without listings may still have the file
            infos = {}
        folders[key] = Listing(infos)
    return folders[key]


def _images(path: str, fs: Any, infos: Mapping[str, Info]) -> tuple[list[TileRef], int]:
    """The tiles among the files of a folder or glob, and the number of other images."""
    listing, root = Listing(infos), open_storage(path)[1]
    others = sum(name.lower().endswith(OTHER_IMAGES) for name in infos)
    found = []
    for name in sorted(name for name in infos if name.lower().endswith(SUFFIXES)):
        if "://" in path:
            shown = fs.unstrip_protocol(name)
        elif is_glob(path):
            shown = name if Path(path).is_absolute() else os.path.relpath(name)
        else:
            shown = str(Path(path, Path(name).relative_to(root)))
        found.append(_reference(shown, fs, name, listing))
    return found, others


def _reference(shown: str, fs: Any, location: str, beside: Listing) -> TileRef:
    """The reference to a file, with its sidecars from the listing of its folder."""

    def url(name: str) -> str:
        return absolute(name) if is_local(fs) or not name else str(fs.unstrip_protocol(name))

    *worlds, prj = (beside.names.get(name.lower(), "") for name in _sidecars(location))
    world = next(filter(None, worlds), "")
    try:
        shown.encode()
    except UnicodeEncodeError as error:
        raise CapetownError("not UTF-8", where=repr(shown), fix="rename the file") from error
    size, mark = _state(fs, location, beside.infos.get(location, {}))
    for name in filter(None, (world, prj)):
        mark += " {}, {}".format(*_state(fs, name, beside.infos.get(name, {})))
    return TileRef(shown, url(location), size, mark, url(world), url(prj))


def _state(fs: Any, location: str, info: Info) -> tuple[int, str]:
    """A file's size in bytes, and a mark that changes with its content."""
    if is_local(fs):
        try:
            status = Path(location).stat()
        except OSError:
            return 0, ""
        return status.st_size, str(status.st_mtime_ns)
    mark = info.get("ETag") or info.get("LastModified") or info.get("mtime") or ""
    return int(info.get("size") or 0), str(mark)


def _sidecars(location: str) -> list[str]:
    """Possible names of an image's world file, in order, and of the file of its CRS."""
    suffix = PurePosixPath(location).suffix
    stem = location.removesuffix(suffix)
    worlds = [f"{suffix[:2]}{suffix[-1]}w", f"{suffix}w", ".wld"] if suffix else [".wld"]
    return [stem + ending for ending in (*worlds, ".prj")]
