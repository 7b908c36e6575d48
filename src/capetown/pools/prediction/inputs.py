"""Find the tiles to predict: files, folders, globs, prefixes of buckets, lists and orthophotos.

A reference keeps a mark of a file's content, by which a run knows whether it resumes with the same
inputs: locally its size, its date, and a digest of its first and last bytes, elsewhere what the
listing says. Sidecars count as well. A local file of equal size and date that differs in the middle
only is not noticed.
"""

import logging
import os
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

from capetown.errors import CapetownError, one_line
from capetown.imagery.tile_ref import Sidecars, TileRef, find_sidecars, sidecar_names
from capetown.imagery.windows import Grid, Tiling, windows_of
from capetown.storage import absolute, is_local, open_storage, read_file, walk_files

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
# Images that are readable but that folders and globs do not select.
OTHER_IMAGES = (".jp2", ".webp", ".bmp", ".gif")
# Orthophotos opened at once to read their sizes.
OPENERS = 8
# Bytes at each end of a local file that its mark covers.
ENDS = 4096

log = logging.getLogger("capetown")
# The files of a folder, prefix or glob by name and by lower-case name, as fsspec describes them.
Info = Mapping[str, Any]
Listing = Mapping[str, Info]


class Tiles:
    """Files and windows in order. Windows are made when they are used: there may be millions.

    Attributes:
        grids: of each file.
    """

    def __init__(self, grids: Sequence[Grid]) -> None:
        self.grids = grids
        self._ends = list(accumulate(map(len, grids)))

    def __len__(self) -> int:
        """The number of tiles."""
        return self._ends[-1] if self._ends else 0

    def part(self, start: int, stop: int) -> list[TileRef]:
        """Some consecutive tiles."""
        return [self._tile(number) for number in range(start, min(stop, len(self)))]

    def _tile(self, number: int) -> TileRef:
        file = bisect(self._ends, number)
        return self.grids[file].tile(number - (self._ends[file - 1] if file else 0))


def find_tiles(paths: Sequence[str], tiling: Tiling) -> Tiles:
    """The result of `find_files`, cut into windows if a window size is given."""
    files = find_files(paths)
    if not (tiling.metres or tiling.pixels):
        return Tiles([Grid(file) for file in files])
    with ThreadPoolExecutor(OPENERS) as pool:
        return Tiles(list(pool.map(lambda file: windows_of(file, tiling), files)))


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
            found = at(path.removeprefix("@"), folders)
        except CapetownError:
            raise
        except FileNotFoundError as error:
            raise CapetownError("not found or unreachable", where=path) from error
        except Exception as error:  # each file system fails in its own way
            raise CapetownError(f"cannot be listed ({one_line(error)})", where=path) from error
        yield from found


def inputs_digest(tiles: Tiles, settings: str) -> str:
    """A digest of tiles and settings: it changes if a tile is added, moved, changed or recut."""
    digest = sha256(settings.encode())
    for grid in tiles.grids:
        digest.update(f"{grid}\n".encode())
    return digest.hexdigest()


def _found(path: str, folders: dict[str, Listing]) -> list[TileRef]:
    """The tiles at a path."""
    fs, root = open_storage(path)
    if any(sign in root for sign in "*?[") and not fs.exists(root):
        matched = fs.glob(root, detail=True).values()
        return _images(path, fs, [info for info in matched if info["type"] != "directory"])
    info = fs.info(root)
    if info["type"] == "directory":
        local = ({"name": name} for name in walk_files(root))
        below = local if is_local(fs) else fs.find(root, detail=True).values()
        return _images(path, fs, list(below), root)
    if is_local(fs):
        return [_reference(path, fs, root, _folder_of(fs, root, folders))]
    beside = _listing([info, *(fs.info(name) for name in sidecar_names(root) if fs.exists(name))])
    return [_reference(path, fs, root, beside)]


def _listed(path: str, folders: dict[str, Listing]) -> list[TileRef]:
    """The tiles that a list names. A line that names no file becomes a tile with an error."""
    found = []
    # Not `splitlines`, because names may contain U+2028 and its like.
    for number, line in enumerate(read_file(path).decode("utf-8-sig").split("\n"), 1):
        if not (name := line.strip()):
            continue
        try:
            fs, location = open_storage(name)
            found.append(_reference(name, fs, location, _folder_of(fs, location, folders)))
        except Exception as error:  # each file system fails in its own way
            reason = f"line {number} of {path} cannot be used ({one_line(error)})"
            found.append(TileRef(name, "", error=reason))
    if not found:
        raise CapetownError("empty list", where=path, fix="write one file per line")
    return found


def _listing(infos: Iterable[Info]) -> Listing:
    by_name = {info["name"]: info for info in infos}
    return {name.lower(): info for name, info in by_name.items()} | by_name


def _folder_of(fs: Any, location: str, folders: dict[str, Listing]) -> Listing:
    """The listing of a file's folder, made once; empty if the folder cannot be listed."""
    folder = location.rpartition("/")[0]
    key = fs.unstrip_protocol(folder)
    if key not in folders:
        folders[key] = {}
        with suppress(Exception):  # a server without listings may still have the file
            folders[key] = _listing(fs.ls(folder, detail=True))
    return folders[key]


def _images(path: str, fs: Any, infos: Sequence[Info], root: str = "") -> list[TileRef]:
    """The tiles among the files of a glob, or of a folder at `root`."""
    names = sorted(info["name"] for info in infos)
    others = sum(name.lower().endswith(OTHER_IMAGES) for name in names)
    left_out = f"{others} images of other formats are left out"
    listing, found = _listing(infos), []
    for name in names:
        if not name.lower().endswith(SUFFIXES):
            continue
        if "://" in path:
            shown = fs.unstrip_protocol(name)
        elif root:
            shown = str(Path(path, Path(name).relative_to(root)))
        else:
            shown = name if Path(path).is_absolute() else os.path.relpath(name)
        found.append(_reference(shown, fs, name, listing))
    if not found:
        more = f" ({left_out})" if others else ""
        fix = "name the tiles one by one" if others else "name another one"
        raise CapetownError(f"no TIFF, PNG or JPEG file{more}", where=path, fix=fix)
    if others:
        log.warning("%s: %s; name them one by one", path, left_out)
    return found


def _reference(shown: str, fs: Any, location: str, beside: Listing) -> TileRef:
    """The reference to a file, with its sidecars from the listing of its folder."""

    def url(name: str) -> str:
        return absolute(name) if is_local(fs) or not name else str(fs.unstrip_protocol(name))

    sidecars = [info or {"name": ""} for info in find_sidecars(location, beside)]
    try:
        shown.encode()
    except UnicodeEncodeError as error:
        raise CapetownError("not UTF-8", where=repr(shown), fix="rename the file") from error
    size, mark = _state(fs, beside.get(location, {"name": location}))
    for info in sidecars:
        if info["name"]:
            mark += " {}, {}".format(*_state(fs, info))
    return TileRef(
        shown, url(location), size, mark, Sidecars(*(url(info["name"]) for info in sidecars))
    )


def _state(fs: Any, info: Info) -> tuple[int, str]:
    """A file's size in bytes, and a mark that changes with its content."""
    if is_local(fs):
        path = Path(info["name"])
        try:
            status = path.stat()
            if not path.is_file():
                return status.st_size, ""
            with path.open("rb") as file:
                ends = file.read(ENDS)
                file.seek(max(file.tell(), status.st_size - ENDS))
                ends += file.read(ENDS)
        except OSError:
            return 0, ""
        return status.st_size, f"{status.st_mtime_ns} {sha256(ends).hexdigest()}"
    mark = info.get("ETag") or info.get("LastModified") or info.get("mtime") or ""
    return int(info.get("size") or 0), str(mark)
