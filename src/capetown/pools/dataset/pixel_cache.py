"""A cache of decoded tiles, so that training never waits for a TIFF.

Each set of tiles is decoded and resized once, with all cores, into one file of 8-bit pixels that is
mapped into memory. The file's name is a digest of the tiles' contents, the size, the interpolation
and the rendering: changed tiles get a new file, and all runs, experiments and backbones with the
same input share one. Files lie in the user's cache folder for a month after their last use.
"""

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

import numpy as np
import platformdirs

from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED, Pixels, UnreadableTileError, read_tile, resize
from capetown.params import BandRendering

MONTH = 30 * 24 * 3600
# Part of every file name. Raise it when reading or resizing gives other pixels.
VERSION = 3

log = logging.getLogger("capetown")


def cache_folder() -> Path:
    """``capetown/tiles`` in the user's cache folder."""
    return platformdirs.user_cache_path("capetown") / "tiles"


def cached_pixels(
    files: Sequence[Path],
    contents: str,
    size: int,
    interpolation: str,
    folder: Path,
    rendering: BandRendering = AS_STORED,
) -> Pixels:
    """The decoded tiles as one array. They are read only if the cache does not have them.

    Args:
        files: readable tiles.
        contents: a digest of their contents.
        size: side in pixels of the square that each is resized to.
        interpolation: ``bilinear``, ``bicubic``, … as timm names them.
        folder: of the cache; see `cache_folder`.
        rendering: how tiles are read.

    Returns:
        uint8, shape (tiles, size, size, 3), mapped from the file and read-only.

    Raises:
        CapetownError: a tile cannot be read, or the cache cannot be written.
    """
    shape = (len(files), size, size, 3)
    name = f"{contents} {size} {interpolation} {rendering} {VERSION}"
    cached = folder / f"{sha256(name.encode()).hexdigest()[:32]}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old_files(folder)
        if not _is_complete(cached, shape):
            _write(cached, files, shape, interpolation, rendering)
        os.utime(cached)
        return np.load(cached, mmap_mode="r")  # type: ignore[no-any-return]
    except OSError as error:
        raise CapetownError(
            f"cannot keep {np.prod(shape) / 1e9:.1f} GB of decoded tiles ({error.strerror})",
            where=folder,
            fix="free some space or point XDG_CACHE_HOME elsewhere",
        ) from error


def _is_complete(cached: Path, shape: tuple[int, ...]) -> bool:
    try:
        return bool(np.load(cached, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _write(
    cached: Path,
    files: Sequence[Path],
    shape: tuple[int, ...],
    interpolation: str,
    rendering: BandRendering,
) -> None:
    """Decode tiles into a file. It gets its name when it is complete."""
    # Process numbers repeat: containers may share the cache.
    part = cached.with_suffix(f".{token_hex(4)}.part")
    start = time.perf_counter()
    try:
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        # Reserve the space: on a full disk, writing to the map would crash the process.
        if hasattr(os, "posix_fallocate"):
            with part.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)

        def decode(row: int) -> None:
            try:
                pixels[row] = resize(read_tile(files[row], rendering), shape[1], interpolation)
            except UnreadableTileError as error:
                raise CapetownError(error.what, where=files[row], fix=error.fix) from error

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode, range(len(files))))
        pixels.flush()
        part.replace(cached)
    finally:
        part.unlink(missing_ok=True)
    log.info("decoded %d tiles in %.1f s", len(files), time.perf_counter() - start)


def _remove_old_files(folder: Path) -> None:
    for old in folder.iterdir():
        # Another process may remove it at the same time.
        with suppress(FileNotFoundError):
            if old.suffix in (".npy", ".part") and time.time() - old.stat().st_mtime > MONTH:
                old.unlink()
