"""The content of files, and the inventory that lists them."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from capetown.bucket.keys import TEMPORARY
from capetown.errors import CapetownError

CHUNK = 1 << 20
FIELDS = ("key", "size", "etag", "sha256", "tile_side", "kept_size", "kept_sha256", "note")
File = io.BytesIO | io.BufferedReader
MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, order=True)
class Entry:
    """A line of the inventory: a whole object, and the file that is kept of it.

    Attributes:
        key: the key in the bucket and the path in the mirror.
        etag: the server's name for this version. An MD5 for most S3 objects.
        tile_side: the most pixels per side that a tile could have; None without a limit.
        kept_size: of the file in the mirror, in bytes.
        kept_sha256: of the file in the mirror; `sha256` if it was not reduced.
        note: why a tile could not be reduced.
    """

    key: str
    size: int
    etag: str
    sha256: str
    tile_side: int | None
    kept_size: int
    kept_sha256: str
    note: str = ""

    @property
    def is_original(self) -> bool:
        """True if the file in the mirror was not reduced."""
        return self.kept_sha256 == self.sha256


def is_md5(etag: str) -> bool:
    """True if an ETag looks like an MD5. ETags of multipart uploads do not."""
    return MD5.fullmatch(etag) is not None


def digest(path: Path, algorithm: str) -> str:
    """The hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def to_csv(entries: Iterable[Entry]) -> str:
    """Entries as the lines of an inventory, without its header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(astuple, entries))
    return text.getvalue()


def write_inventory(path: Path, entries: Iterable[Entry]) -> None:
    """Write an inventory, sorted by key. It appears when it is whole."""
    rows, temporary = sorted(entries), path.with_name(f"{TEMPORARY}{path.name}")
    temporary.write_text(",".join(FIELDS) + "\n" + to_csv(rows), encoding="utf-8")
    temporary.replace(path)


def read_inventory(path: Path) -> dict[str, Entry]:
    """The entries of an inventory by key. Damaged lines are skipped."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    found = {}
    for line in text.split("\n")[:-1]:
        try:
            [[key, size, etag, sha256, side, kept_size, kept_sha256, note]] = csv.reader(
                [line], strict=True
            )
            found[key] = Entry(
                *(key, int(size), etag, sha256, int(side) if side else None),
                *(int(kept_size), kept_sha256, note),
            )
        except (ValueError, csv.Error):
            continue
    return found


def check_content(key: str, file: File) -> None:
    """Check that a file has the content that its key promises.

    Pillow or tifffile must be able to describe the first image of a TIFF. A gzip file must
    decompress to its end with the right checksum. A GeoJSON file must begin and end like a
    FeatureCollection. Other files must not be empty.

    Raises:
        CapetownError: it has not. The caller adds the key.
    """
    if file.seek(0, io.SEEK_END) == 0:
        raise CapetownError("is empty", fix="export or fetch it again")
    file.seek(0)
    name = key.lower()
    if name.endswith((".tif", ".tiff")):
        _check_tiff(file)
    elif name.endswith(".gz"):
        _check_gzip(file)
    elif name.endswith(".geojson"):
        _check_geojson(file)


def _check_tiff(file: File) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=["TIFF"]):
            return
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError):
        pass
    # Pillow is fast and reads common files. tifffile reads the rest.
    from tifffile import TiffFile

    file.seek(0)
    try:
        with TiffFile(file) as tiff:
            height_and_width = tiff.pages[0].shape[:2]
    except Exception as error:
        raise CapetownError(f"is not a TIFF ({' '.join(str(error).split())})") from error
    if 0 in height_and_width:
        raise CapetownError("is a TIFF without pixels")


def _check_gzip(file: File) -> None:
    from isal import igzip, isal_zlib

    if not file.read(2).startswith(b"\x1f\x8b"):
        raise CapetownError(
            "is not gzip, though its name ends in .gz", fix="save it as CSV, compressed with gzip"
        )
    file.seek(0)
    try:
        with igzip.open(file) as unpacked:  # type: ignore[no-untyped-call]
            while unpacked.read(CHUNK):
                pass
    except (OSError, EOFError, isal_zlib.error) as error:  # type: ignore[misc]
        raise CapetownError(f"is not a whole gzip file ({error})") from error


def _check_geojson(file: File) -> None:
    head = file.read(4096)
    file.seek(max(0, file.seek(0, io.SEEK_END) - 4096))
    tail = file.read()
    opens = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    if not (opens and tail.rstrip().endswith(b"}") and b"FeatureCollection" in head + tail):
        raise CapetownError("is not a whole GeoJSON FeatureCollection")
