"""Aerial tiles: finding them, and reading any of them as 8-bit RGB.

Tiles lie in one folder a class, ``yes`` and ``no``, and are named ``SHEET_ROW_COLUMN.tif`` after
the map sheet that they were cut from. Files that are not ``.tif`` or ``.tiff``, in any case, are
no tiles: the City puts a ``manifest`` beside them.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from capetown.city import CLASSES, TILE_NAME
from capetown.errors import CapetownError

SUFFIXES = (".tif", ".tiff")
# A tile is a few hundred pixels a side. What is larger is a mosaic or a mistake, and squeezing it
# into a model's input would leave no pool to see.
MAX_SIDE = 4096

MINISBLACK, MINISWHITE = tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE
Pixels = npt.NDArray[np.uint8]

# A damaged tile is one error of ours, not warnings besides.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableTileError(CapetownError):
    """Why a tile cannot be used."""


@dataclass(frozen=True, order=True)
class Tile:
    """A labelled tile: its path relative to some root, its class, and its map sheet."""

    path: str
    label: str
    sheet: str


def sheet_of(name: str) -> str:
    """The map sheet in a file name: ``W35A`` of ``W35A_7_58.tif``.

    A name of another form stands for a sheet of its own.
    """
    stem = Path(name).stem
    matched = TILE_NAME.fullmatch(stem)
    return matched["sheet"] if matched else stem


def is_tile_name(name: str) -> bool:
    """Whether a file's name ends as a tile's does."""
    return name.lower().endswith(SUFFIXES)


def find_tiles(folder: Path, root: Path) -> list[Tile]:
    """The tiles in the class folders of a folder, sorted by path.

    Args:
        folder: holds ``yes`` and ``no``.
        root: what the paths of the tiles are relative to.

    Raises:
        CapetownError: if a class folder is missing or has no tiles.
    """
    tiles = []
    for label in CLASSES:
        if not (folder / label).is_dir():
            raise CapetownError(f"{folder / label}: no such folder; tiles lie in `yes` and `no`.")
        paths = [p for p in (folder / label).iterdir() if is_tile_name(p.name)]
        if not paths:
            raise CapetownError(f"{folder / label}: no tiles (*.tif) in it.")
        tiles += [Tile(p.relative_to(root).as_posix(), label, sheet_of(p.name)) for p in paths]
    return sorted(tiles)


def read_tile(source: Path | BinaryIO) -> Pixels:
    """Read the first image of a file as 8-bit RGB, whatever its name ends in.

    Grey becomes three equal bands; alpha and every band after the third are dropped; 16 bits are
    scaled to 8 by the type's full range.

    Args:
        source: a file's path, or a binary file that can seek.

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        UnreadableTileError: the reason, if the file cannot be opened, is empty, damaged, no image,
            not of integers of 8 or 16 bits, or more than `MAX_SIDE` pixels wide or high.
    """
    try:
        if _size(source) == 0:
            raise UnreadableTileError("empty: 0 bytes.")
    except OSError as error:
        raise UnreadableTileError(f"cannot be read ({error.strerror}).") from error
    try:
        return _read_with_pillow(source)
    except UnreadableTileError:
        raise
    except (UnidentifiedImageError, ValueError):  # no image, or bands that Pillow does not know
        return _read_with_tifffile(source)
    except Image.DecompressionBombError as error:
        raise UnreadableTileError(f"over {MAX_SIDE} pixels a side: no tile.") from error
    except Exception as error:  # a decoder may fail in any way on a damaged file
        raise UnreadableTileError(f"damaged: {' '.join(str(error).split())}.") from error


def pixel_digest(pixels: Pixels) -> str:
    """A digest of an image's size and pixels: equal for equal images, whatever their files."""
    return sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def digest_tiles(tiles: Sequence[Tile], root: Path) -> tuple[dict[Tile, str], dict[Tile, str]]:
    """Read tiles with all cores.

    Returns:
        The `pixel_digest` of each that can be read, and why each other one cannot.
    """

    def look(tile: Tile) -> tuple[str, str]:
        try:
            return pixel_digest(read_tile(root / tile.path)), ""
        except UnreadableTileError as error:
            return "", str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = dict(zip(tiles, pool.map(look, tiles), strict=True))
    digests = {tile: digest for tile, (digest, _) in looks.items() if digest}
    return digests, {tile: reason for tile, (_, reason) in looks.items() if reason}


def resize(pixels: Pixels, size: int, interpolation: str) -> Pixels:
    """Squeeze an image into a square, all of it: pools often lie at an edge.

    timm's own evaluation would cut away all but the middle, its ``crop_pct``.

    Args:
        pixels: uint8, shape (height, width, 3).
        size: side of the square in pixels.
        interpolation: ``bilinear``, ``bicubic``, … as timm names them.

    Returns:
        uint8, shape (size, size, 3).
    """
    method = Image.Resampling[interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize((size, size), method))


def _read_with_pillow(source: Path | BinaryIO) -> Pixels:
    with Image.open(source) as image:
        _check_size(*image.size)
        if image.mode.startswith("I;16"):
            grey = np.asarray(image, dtype=np.uint16)
            # Pillow turns white-is-zero round for up to 8 bits only.
            tags = getattr(image, "tag_v2", {})
            if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == MINISWHITE:
                grey = ~grey
            return _to_rgb(grey[..., None])
        if image.mode in ("I", "F", "LAB"):
            raise UnreadableTileError(
                f"pixels of mode {image.mode}: not RGB or grey, 8 or 16 bits."
            )
        return np.asarray(image.convert("RGB"))


def _read_with_tifffile(source: Path | BinaryIO) -> Pixels:
    if not isinstance(source, Path):
        source.seek(0)
    try:
        with tifffile.TiffFile(source) as tiff:
            page = tiff.pages.first
            _check_page(page, tiff.filehandle.size)
            bands = page.asarray()
            if page.photometric == MINISWHITE:
                bands = ~bands
            if page.axes == "SYX":
                bands = np.moveaxis(bands, 0, -1)
            return _to_rgb(bands.reshape(page.imagelength, page.imagewidth, -1))
    except UnreadableTileError:
        raise
    except Exception as error:
        reason = "no image, or damaged: neither Pillow nor tifffile reads it."
        raise UnreadableTileError(reason) from error


def _check_page(page: Any, file_size: int) -> None:
    _check_size(page.imagewidth, page.imagelength)
    if page.dtype not in (np.uint8, np.uint16):
        raise UnreadableTileError(f"pixels of type {page.dtype}: not 8 or 16 bits.")
    if page.photometric not in (tifffile.PHOTOMETRIC.RGB, MINISBLACK, MINISWHITE):
        raise UnreadableTileError(f"colours as {page.photometric.name}: not RGB or grey.")
    # tifffile would fill what is missing with zeros.
    if max(np.add(page.dataoffsets, page.databytecounts)) > file_size:
        raise UnreadableTileError("damaged: the file ends before its pixels do.")


def _size(source: Path | BinaryIO) -> int:
    """The size of a file in bytes; an open one is left at its start."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.seek(0, os.SEEK_END)
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    return size


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise UnreadableTileError(f"{width} x {height} pixels, over {MAX_SIDE} a side: no tile.")


def _to_rgb(bands: npt.NDArray[np.uint8 | np.uint16]) -> Pixels:
    """The first three bands, or the first three times, of an array (height, width, bands)."""
    if bands.shape[2] < 3:
        bands = np.repeat(bands[..., :1], 3, axis=2)
    bands = bands[..., :3]
    if bands.dtype == np.uint16:
        return np.ascontiguousarray((bands.astype(np.uint32) + 128) // 257, dtype=np.uint8)
    return np.ascontiguousarray(bands, dtype=np.uint8)
