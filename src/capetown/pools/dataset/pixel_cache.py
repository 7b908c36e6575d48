"""A cache of decoded tiles, so that training never waits for a TIFF.

Each set of tiles is decoded and resized once, with all cores, into one file of packed 8-bit pixels
that is mapped into memory. A pack's name is a digest of the tiles' contents, the size and the
interpolation: changed tiles make a new pack, and runs, experiments and backbones of one size share
one. Tiles that are decoded before it is known which of them go together wait in a `scratch`. Packs
lie in the user's cache folder, where all clones and experiments find them, and are removed when
unused for a month.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import platformdirs

from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED, Pixels, UnreadableTileError, read_tile, resize
from capetown.params import BandRendering

MONTH = 30 * 24 * 3600
# Part of every pack's name: raise it when reading or resizing gives other pixels.
VERSION = 3

log = logging.getLogger("capetown")


def cache_folder() -> Path:
    """Folder of the packs: ``capetown/tiles`` in the user's cache folder."""
    return platformdirs.user_cache_path("capetown") / "tiles"


def pack_tiles(
    files: Sequence[Path],
    contents: str,
    size: int,
    interpolation: str,
    folder: Path,
    rule: BandRendering = AS_STORED,
) -> Pixels:
    """The tiles as one array, from the cache in a folder or added to it.

    Args:
        files: readable tiles, in the order wanted.
        contents: a digest of what is in them; another one makes another pack.
        size: side of the square that each is resized to, in pixels.
        interpolation: ``bilinear``, ``bicubic``, … as timm names them.
        folder: where packs are kept; see `cache_folder`.
        rule: how tiles are read.

    Returns:
        uint8, shape (tiles, size, size, 3), mapped from the file and read-only.

    Raises:
        CapetownError: if a tile cannot be read, or the pack cannot be written.
    """

    def decode(pixels: Pixels) -> None:
        def decode_one(row: int) -> None:
            try:
                pixels[row] = resize(read_tile(files[row], rule), size, interpolation)
            except UnreadableTileError as error:
                raise CapetownError(f"{files[row]}: {error}") from error

        start = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode_one, range(len(files))))
        log.info("decoded %d tiles in %.1f s", len(files), time.perf_counter() - start)

    return _pack(len(files), contents, size, interpolation, folder, rule, decode)


def scratch(count: int, size: int, folder: Path) -> Pixels:
    """Room for decoded tiles in a nameless file, which is gone with the array or the process.

    Args:
        count: of tiles.
        size: side of the square of each, in pixels.
        folder: where packs are kept; see `cache_folder`.

    Returns:
        uint8, shape (count, size, size, 3), mapped from the file.

    Raises:
        CapetownError: if there is no room.
    """
    shape = (count, size, size, 3)
    with _room(shape, folder), TemporaryFile(dir=folder) as file:
        file.truncate(int(np.prod(shape)))
        _take_room(file)
        return np.memmap(file, np.uint8, "r+", shape=shape)


def pack_rows(
    pixels: Pixels,
    rows: npt.NDArray[np.intp],
    contents: str,
    interpolation: str,
    folder: Path,
    rule: BandRendering = AS_STORED,
) -> None:
    """Put what `pack_tiles` would make of tiles in the cache, of those that are decoded already.

    Args:
        pixels: uint8, shape (tiles, size, size, 3).
        rows: which of them, in order.
        contents: as in `pack_tiles`.
        interpolation: how they were resized.
        folder: where packs are kept; see `cache_folder`.
        rule: how they were read.

    Raises:
        CapetownError: if the pack cannot be written.
    """

    def copy(pack: Pixels) -> None:
        np.take(pixels, rows, axis=0, out=pack, mode="clip")  # "raise" would need a copy more

    _pack(len(rows), contents, pixels.shape[1], interpolation, folder, rule, copy)


def _pack(
    count: int,
    contents: str,
    size: int,
    interpolation: str,
    folder: Path,
    rule: BandRendering,
    fill: Callable[[Pixels], None],
) -> Pixels:
    """The pack of tiles, mapped read-only; one that is not there is made, and filled."""
    shape = (count, size, size, 3)
    name = f"{contents} {size} {interpolation} {rule} {VERSION}"
    pack = folder / f"{sha256(name.encode()).hexdigest()[:32]}.npy"
    with _room(shape, folder):
        if not _is_whole(pack, shape):
            _write_pack(pack, shape, fill)
        os.utime(pack)
        return np.load(pack, mmap_mode="r")  # type: ignore[no-any-return]


@contextmanager
def _room(shape: tuple[int, ...], folder: Path) -> Iterator[None]:
    """The folder, without old packs; that it has no room for tiles is an error of ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_old_packs(folder)
        yield
    except OSError as error:
        needed = np.prod(shape) / 1e9
        raise CapetownError(
            f"{folder}: cannot keep {needed:.1f} GB of decoded tiles ({error.strerror}); "
            "make room or point XDG_CACHE_HOME elsewhere."
        ) from error


def _is_whole(pack: Path, shape: tuple[int, ...]) -> bool:
    try:
        return bool(np.load(pack, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _write_pack(pack: Path, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> None:
    """Write a pack under another name and rename it, so that none is ever seen in part."""
    part = pack.with_suffix(f".{os.getpid()}.part")
    try:
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        with part.open("r+b") as file:
            _take_room(file)
        fill(pixels)
        pixels.flush()
        part.replace(pack)
    finally:
        part.unlink(missing_ok=True)


def _take_room(file: BinaryIO) -> None:
    """Make a full disk an error here: it would be a crash when the map is written to."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _forget_old_packs(folder: Path) -> None:
    for old in folder.iterdir():
        # Another process may be about the same.
        with suppress(FileNotFoundError):
            if old.suffix in (".npy", ".part") and time.time() - old.stat().st_mtime > MONTH:
                old.unlink()
