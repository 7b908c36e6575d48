"""Every TIFF that tifffile can write is read with the same pixels, or refused."""

import io
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageOps

from capetown.imagery.reading import UnreadableTileError, read_tile

Array = npt.NDArray[Any]
HEIGHT, WIDTH = 24, 32
BYTE_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
BITS: dict[int, type] = {1: bool, 2: np.uint8, 4: np.uint8, 8: np.uint8, 10: np.uint16,
                         12: np.uint16, 14: np.uint16, 16: np.uint16}  # fmt: skip
REFUSED = (np.int8, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64)
COMPRESSIONS = (None, "lzw", "zlib", "packbits", "zstd", "lerc", "jpeg", "webp", "png",
                "jpeg2000")  # fmt: skip


def samples(bits: int, bands: int) -> Array:
    """Noise that uses all of the range."""
    found = np.random.default_rng(bits + bands).integers(0, 2**bits, (HEIGHT, WIDTH, bands))
    return found.astype(BITS[bits])


def written(pixels: Array, bits: int, compression: str | None) -> Iterator[bytes]:
    """Every file that tifffile can write of these samples."""
    layouts = product(
        ("contig", "separate"), (None, (16, 16)), BYTE_ORDERS, (False, True),
        ("minisblack", "miniswhite", "rgb"),
    )  # fmt: skip
    for planes, block, order, predictor, photometric in layouts:
        options: dict[str, Any] = {"planarconfig": planes} if pixels.shape[2] > 1 else {}
        if predictor:
            options["predictor"] = True
        if bits not in (1, 8, 16, 32, 64):
            options["bitspersample"] = bits
        file = io.BytesIO()
        stored = pixels if planes == "contig" else np.moveaxis(pixels, -1, 0)
        try:
            tifffile.imwrite(
                file, stored if pixels.shape[2] > 1 else pixels[..., 0], tile=block,
                byteorder=order, photometric=photometric, compression=compression, **options,
            )  # fmt: skip
        except Exception:  # not one of the kinds that it can write
            continue
        yield file.getvalue()


def by_tifffile(file: bytes) -> Array | str:
    """The 8-bit RGB of tifffile, or the reason why it cannot be shown."""
    with tifffile.TiffFile(io.BytesIO(file)) as tiff:
        page = tiff.pages.first
        pixels, bits, white = page.asarray(), page.bitspersample, page.photometric == 0
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif page.planarconfig == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.max() > 2**bits - 1:
        return "damaged: a value of"
    if pixels.shape[2] == 2:
        return "2 bands, neither grey nor RGB"
    shown = np.rint(pixels.astype(float) * 255 / (2**bits - 1)).astype(np.uint8)
    shown = 255 - shown if white else shown
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown[..., :3]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_kind_is_read_as_tifffile_decodes_it(compression: str | None) -> None:
    count = 0
    rare = compression not in (None, "lzw", "zlib", "packbits")
    for bits, bands in product((8, 12, 16) if rare else BITS, (1, 2, 3, 4, 5)):
        for file in written(samples(bits, bands), bits, compression):
            expected = by_tifffile(file)
            count += 1
            if isinstance(expected, str):
                with pytest.raises(UnreadableTileError, match=expected):
                    read_tile(io.BytesIO(file))
            else:
                np.testing.assert_array_equal(read_tile(io.BytesIO(file)), expected)
    assert count >= 20


def test_numbers_without_a_full_range_are_refused() -> None:
    count = 0
    for kind, bands, compression in product(REFUSED, (1, 3), (None, "zlib")):
        pixels = samples(8, bands).astype(kind)
        for file in written(pixels, pixels.dtype.itemsize * 8, compression):
            count += 1
            with pytest.raises(UnreadableTileError, match=rf"^pixels of type {np.dtype(kind)}"):
                read_tile(io.BytesIO(file))
    assert count > 100


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["RGB", "L", "P", "RGBA", "I;16", "CMYK"])
def test_a_tile_is_turned_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    if kind == "I;16":
        image = Image.fromarray(samples(16, 1)[..., 0])
    else:
        image = Image.fromarray(samples(8, 3)).convert(kind)
    image.getexif()[274] = orientation
    image.save(tmp_path / "a.tif", exif=image.getexif(), compression="tiff_lzw")
    upright = ImageOps.exif_transpose(image)
    if kind == "I;16":
        expected = np.rint(np.asarray(upright) / 257).astype(np.uint8)[..., None].repeat(3, 2)
    else:
        expected = np.asarray(upright.convert("RGB"))
    np.testing.assert_array_equal(read_tile(tmp_path / "a.tif"), expected)
    opened = io.BytesIO((tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(read_tile(opened), expected)
