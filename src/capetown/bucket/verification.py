"""Whether what was fetched is what the bucket holds, and the inventory that says so."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from capetown.errors import CapetownError

CHUNK = 1 << 20
FIELDS = ("key", "size", "etag", "sha256")
MD5 = re.compile(r"[0-9a-f]{32}")
SIZE = re.compile(r"[0-9]{1,18}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class Entry:
    """A line of the inventory: an object that is whole.

    Attributes:
        key: its key in the bucket and its path in the mirror.
        size: in bytes.
        etag: what the server calls this version of it; an MD5 for most S3 objects.
        sha256: of its bytes.
    """

    key: str
    size: int
    etag: str
    sha256: str


def is_md5(etag: str) -> bool:
    """Whether an ETag looks like an MD5: of objects uploaded in parts it does not."""
    return MD5.fullmatch(etag) is not None


def digest(path: Path, algorithm: str) -> str:
    """The hash of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def to_csv(entries: Iterable[Entry]) -> str:
    """Entries as the lines of an inventory, without its head."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((e.key, e.size, e.etag, e.sha256) for e in entries)
    return text.getvalue()


def write_inventory(path: Path, entries: Iterable[Entry], temporary: Path) -> None:
    """Write an inventory, sorted by key, by way of a temporary file beside it."""
    temporary.write_text(",".join(FIELDS) + "\n" + to_csv(sorted(entries)), encoding="utf-8")
    temporary.replace(path)


def read_inventory(path: Path) -> dict[str, Entry]:
    """The entries of an inventory by key; those of the whole lines of one that is damaged."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    found = {}
    for line in text.split("\n")[:-1]:
        try:
            [[key, size, etag, sha256]] = csv.reader([line], strict=True)
        except (ValueError, csv.Error):
            continue
        if SIZE.fullmatch(size) and SHA256.fullmatch(sha256):
            found[key] = Entry(key, int(size), etag, sha256)
    return found


def check_content(key: str, path: Path) -> None:
    """Check that a file is of the kind that its key says.

    A TIFF must have a first image that Pillow or tifffile can describe, a gzip file must
    decompress to its end and its checksum hold, and a GeoJSON file must open and close as a
    FeatureCollection does. Other kinds need only not be empty.

    Raises:
        CapetownError: if it is not; says what it is not, and leaves the key to the caller.
    """
    if path.stat().st_size == 0:
        raise CapetownError("is empty")
    name = key.lower()
    if name.endswith((".tif", ".tiff")):
        _check_tiff(path)
    elif name.endswith(".gz"):
        _check_gzip(path)
    elif name.endswith(".geojson"):
        _check_geojson(path)


def _check_tiff(path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["TIFF"]):
            return
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError):
        pass
    # Pillow knows the common kinds and is quick; tifffile knows the rest.
    from tifffile import TiffFile

    try:
        with TiffFile(path) as tiff:
            height_and_width = tiff.pages[0].shape[:2]
    except Exception as error:
        raise CapetownError(f"is not a TIFF ({' '.join(str(error).split())})") from error
    if 0 in height_and_width:
        raise CapetownError("is a TIFF without pixels")


def _check_gzip(path: Path) -> None:
    from isal import igzip, isal_zlib

    try:
        with igzip.open(path) as file:  # type: ignore[no-untyped-call]
            while file.read(CHUNK):
                pass
    except (OSError, EOFError, isal_zlib.error) as error:  # type: ignore[misc]
        raise CapetownError(f"is not a whole gzip file ({error})") from error


def _check_geojson(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, path.stat().st_size - 4096))
        tail = file.read()
    opens = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    if not (opens and tail.rstrip().endswith(b"}") and b"FeatureCollection" in head + tail):
        raise CapetownError("is not a whole GeoJSON FeatureCollection")
