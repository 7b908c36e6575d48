"""Objects on the disk: verify them, downsample them, and find those of earlier runs."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from io import SEEK_END
from pathlib import Path
from typing import Literal

from capetown.bucket.keys import is_tile
from capetown.bucket.retrying import DamagedError
from capetown.bucket.sources import Object
from capetown.bucket.verification import Entry, File, check_content, digest, is_md5
from capetown.errors import CapetownError

# Bytes per pixel of a reduced tile, measured in benchmarks/README.md. An estimate, not a limit.
BYTES_PER_PIXEL = 0.4


@dataclass(frozen=True)
class RetentionPolicy:
    """Rules by which objects are verified and kept.

    Attributes:
        checksums: ``md5`` compares an object with its ETag if that is an MD5. ``size`` compares
            only sizes, for servers whose ETags look like an MD5 but are not.
        tile_side: the most pixels per side of a tile. None keeps all tiles as they are.
        reduce: returns a tile's file at most that large, or the same bytes if it is not larger.
            After a `CapetownError` the tile is kept unreduced.
    """

    checksums: Literal["md5", "size"] = "md5"
    tile_side: int | None = None
    reduce: Callable[[bytes, int], bytes] = field(default=lambda data, _: data)

    def side_of(self, key: str) -> int | None:
        """The most pixels per side of an object. None unless it is a tile to reduce."""
        return self.tile_side if is_tile(key) else None

    def expected_size(self, item: Object) -> int:
        """About how many bytes of an object will be kept."""
        side = self.side_of(item.key)
        return item.size if side is None else min(item.size, round(side**2 * BYTES_PER_PIXEL))

    def trusts(self, etag: str) -> bool:
        """True if an ETag looks like an MD5 and shall be compared."""
        return self.checksums == "md5" and is_md5(etag)


def verify(item: Object, file: File) -> tuple[Entry, str, CapetownError | None]:
    """The entry of a fetched object, its MD5, and the error in its content, if any.

    Raises:
        DamagedError: its size is not the one that the source gave.
    """
    if (size := file.seek(0, SEEK_END)) != item.size:
        raise DamagedError(f"{size} of {item.size} bytes arrived")
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    md5 = hashlib.file_digest(file, "md5").hexdigest()
    fault = None
    try:
        check_content(item.key, file)
    except CapetownError as error:
        fault = error
    return _unreduced(item, sha256), md5, fault


def downsample(entry: Entry, data: bytes, policy: RetentionPolicy) -> tuple[Entry, bytes]:
    """An object's bytes as they are kept, and the entry that describes them."""
    side = policy.side_of(entry.key)
    if side is None:
        return entry, data
    try:
        kept, note = policy.reduce(data, side), ""
    except CapetownError as error:
        kept, note = data, f"kept unreduced: {error}"
    if kept is data:
        return replace(entry, tile_side=side, note=note), data
    sha256 = hashlib.sha256(kept).hexdigest()
    return replace(entry, tile_side=side, kept_size=len(kept), kept_sha256=sha256), kept


def find_existing(
    folder: Path, items: Iterable[Object], known: Mapping[str, Entry], policy: RetentionPolicy
) -> tuple[dict[str, Entry], dict[str, Path]]:
    """Find objects that a folder already contains.

    A file without an entry of an earlier run in `known` is recognised only by its MD5.

    Returns:
        The entries of objects that need no work, and the files of those that are still to be
        reduced.
    """
    whole: dict[str, Entry] = {}
    originals: dict[str, Path] = {}
    for item in items:
        path, side = folder / item.key, policy.side_of(item.key)
        entry = _identify(path, item, known.get(item.key), policy)
        if entry is None:
            continue
        if entry.tile_side == side:
            whole[item.key] = entry
        elif entry.is_original and side is None:
            whole[item.key] = replace(entry, tile_side=None, note="")
        elif entry.is_original:
            originals[item.key] = path
    return whole, originals


def _identify(
    path: Path, item: Object, known: Entry | None, policy: RetentionPolicy
) -> Entry | None:
    """The entry of a file, or None if it is not this version of the object."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    if known and item.etag and (known.size, known.etag) == (item.size, item.etag):
        same = size == known.kept_size and digest(path, "sha256") == known.kept_sha256
        return known if same else None
    if size == item.size and policy.trusts(item.etag) and digest(path, "md5") == item.etag:
        return _unreduced(item, digest(path, "sha256"))
    return None


def _unreduced(item: Object, sha256: str) -> Entry:
    return Entry(item.key, item.size, item.etag, sha256, None, item.size, sha256)
