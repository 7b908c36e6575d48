"""Objects that came whole: verified, reduced, and found again in a folder."""

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

# Of a reduced tile: measured, see benchmarks/README.md. For the plan that is logged, no limit.
BYTES_A_PIXEL = 0.4


@dataclass(frozen=True)
class RetentionPolicy:
    """Rules by which what came is judged and kept.

    Attributes:
        checksums: ``md5`` compares an object with its ETag where that is an MD5; ``size`` compares
            sizes alone, for servers whose ETags only look like one.
        tile_side: pixels that a tile's longer side may have; None keeps all tiles as they come.
        reduce: gives a tile's bytes at most that large, or as they are if it is no larger; raises
            `CapetownError` if it cannot read the tile, which is then kept as it came.
    """

    checksums: Literal["md5", "size"] = "md5"
    tile_side: int | None = None
    reduce: Callable[[bytes, int], bytes] = field(default=lambda data, _: data)

    def side_of(self, key: str) -> int | None:
        """The limit that holds for an object."""
        return self.tile_side if is_tile(key) else None

    def expected_size(self, item: Object) -> int:
        """About how many bytes of an object will be kept."""
        side = self.side_of(item.key)
        return item.size if side is None else min(item.size, round(side**2 * BYTES_A_PIXEL))

    def has_md5(self, etag: str) -> bool:
        """True if an ETag is to be taken for the MD5 that it looks like."""
        return self.checksums == "md5" and is_md5(etag)


def verify(item: Object, file: File) -> tuple[Entry, str, CapetownError | None]:
    """Entry of an object as it came, its MD5, and the error if it is not of its kind.

    Raises:
        DamagedError: if its size is not what the source said.
    """
    if (size := file.seek(0, SEEK_END)) != item.size:
        raise DamagedError(f"{size} bytes came of {item.size}")
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    md5 = hashlib.file_digest(file, "md5").hexdigest()
    entry = Entry(item.key, item.size, item.etag, sha256, None, item.size, sha256)
    try:
        check_content(item.key, file)
    except CapetownError as error:
        return entry, md5, error
    return entry, md5, None


def downsampled(entry: Entry, data: bytes, keeping: RetentionPolicy) -> tuple[Entry, bytes]:
    """Reduce an object as it is to be kept; the entry says what was made of it."""
    side = keeping.side_of(entry.key)
    if side is None:
        return entry, data
    try:
        kept, note = keeping.reduce(data, side), ""
    except CapetownError as error:
        kept, note = data, f"kept as it came: {error}"
    if kept is data:
        return replace(entry, tile_side=side, note=note), data
    sha256 = hashlib.sha256(kept).hexdigest()
    return replace(entry, tile_side=side, kept_size=len(kept), kept_sha256=sha256), kept


def find_existing(
    folder: Path, items: Iterable[Object], known: Mapping[str, Entry], keeping: RetentionPolicy
) -> tuple[dict[str, Entry], dict[str, Path]]:
    """Find what a folder already holds of objects.

    Args:
        folder: the mirror, or where objects arrive for it.
        items: the objects as their source describes them.
        known: what was whole by an earlier run's account. An object that it does not name is
            known only if its ETag is an MD5 and that of the file.
        keeping: what is to be kept.

    Returns:
        The entries of those that are as they are to be kept, and the files of those that are as
        they came and are still to be reduced.
    """
    whole: dict[str, Entry] = {}
    originals: dict[str, Path] = {}
    for item in items:
        path, side = folder / item.key, keeping.side_of(item.key)
        entry = _identify(path, item, known.get(item.key), keeping)
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
    path: Path, item: Object, known: Entry | None, keeping: RetentionPolicy
) -> Entry | None:
    """The entry of a file that is the object's or what was made of it, if it is."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    if known and item.etag and (known.size, known.etag) == (item.size, item.etag):
        same = size == known.kept_size and digest(path, "sha256") == known.kept_sha256
        return known if same else None
    if size == item.size and keeping.has_md5(item.etag) and digest(path, "md5") == item.etag:
        sha256 = digest(path, "sha256")
        return Entry(item.key, item.size, item.etag, sha256, None, item.size, sha256)
    return None
