"""Tiles of every kind are read as RGB or refused with a reason."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from capetown.errors import CapetownError
from capetown.imagery.reading import UnreadableTileError, read_tile
from capetown.params import BandRendering
from capetown.pools.dataset.listing import Tile, find_tiles, pixel_digest, sheet_of, stray_images

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
GREY = np.repeat(RGB[..., :1], 3, axis=2)
FOUR = np.dstack([RGB, RGB[..., :1]])
FIVE = np.dstack([RGB, RGB[..., :2]])


def deep(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """The same picture in 16 bits."""
    return pixels.astype(np.uint16) * 257


def planes(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.moveaxis(pixels, -1, 0)


def read(file: io.BytesIO, **rule: Any) -> npt.NDArray[np.uint8]:
    return read_tile(file, BandRendering(**{"bands": None, "scale": "full", **rule}))


def tiff(pixels: npt.NDArray[Any], **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    file.seek(0)
    return file


# What to write, how, and what must be read.
FRIENDLY_AND_ODD: dict[str, tuple[npt.NDArray[Any], dict[str, Any], npt.NDArray[Any]]] = {
    "rgb": (RGB, {"photometric": "rgb"}, RGB),
    "rgb in planes": (planes(RGB), {"photometric": "rgb", "planarconfig": "separate"}, RGB),
    "rgb in blocks": (RGB, {"photometric": "rgb", "tile": (16, 16)}, RGB),
    "big tiff": (RGB, {"photometric": "rgb", "bigtiff": True}, RGB),
    "two pages": (np.stack([RGB, 255 - RGB]), {"photometric": "rgb"}, RGB),
    "rgba": (FOUR, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, RGB),
    "rgb and infrared": (FOUR, {"photometric": "rgb", "extrasamples": ["unspecified"]}, RGB),
    "rgb and infrared, 16 bits in planes": (
        planes(deep(FOUR)),
        {"photometric": "rgb", "extrasamples": ["unspecified"], "planarconfig": "separate"},
        RGB,
    ),
    "four bands": (FOUR, {"photometric": "minisblack", "planarconfig": "contig"}, RGB),
    "five bands": (FIVE, {"photometric": "minisblack", "planarconfig": "contig"}, RGB),
    "grey": (RGB[..., 0], {"photometric": "minisblack"}, GREY),
    "white is zero": (255 - RGB[..., 0], {"photometric": "miniswhite"}, GREY),
}


@pytest.mark.parametrize("kind", FRIENDLY_AND_ODD)
def test_a_tiff_is_read_whatever_its_bands(kind: str, tmp_path: Path) -> None:
    written, options, expected = FRIENDLY_AND_ODD[kind]
    file = tiff(written, **options)
    np.testing.assert_array_equal(read_tile(file), expected)
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    np.testing.assert_array_equal(read_tile(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "YCbCr", "RGBA"])
def test_a_tiff_of_another_mode_is_read_as_pillow_converts_it(mode: str, tmp_path: Path) -> None:
    Image.fromarray(RGB).convert(mode).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(read_tile(tmp_path / "a.tif"), image.convert("RGB"))


def test_a_png_that_calls_itself_a_tiff_is_read(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif", format="PNG")
    np.testing.assert_array_equal(read_tile(tmp_path / "a.tif"), RGB)


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("nowhere.tif"), lambda p: p.mkdir()])
def test_a_file_that_cannot_be_opened_is_refused(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.tif")
    with pytest.raises(UnreadableTileError, match=r"^cannot be read \((No such|Is a dir)"):
        read_tile(tmp_path / "a.tif")


def saved(image: Image.Image, compression: str) -> bytes:
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    return file.getvalue()


def first(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    plain = tiff(RGB, photometric="rgb").getvalue()
    five = tiff(FIVE, photometric="minisblack", planarconfig="contig").getvalue()
    wide = tiff(np.zeros((2, 20_000, 3), np.uint8), photometric="rgb").getvalue()
    image = Image.fromarray(RGB)
    lab = Image.frombytes("LAB", (32, 24), RGB.tobytes())
    for data, reason in (
        (b"", "empty: 0 bytes"),
        (b"no picture", "not an image, or damaged"),
        (first(plain, 0.5), "damaged: the file ends before its pixels do"),
        (first(plain, 0.05), "damaged: "),
        (first(five, 0.7), "damaged: the file ends before its pixels do"),
        (first(saved(image, "tiff_lzw"), 0.7), "damaged: "),
        (first(saved(image, "jpeg"), 0.7), "damaged: "),
        (saved(lab, "raw"), "cannot show CIELAB, 3 bands of 8 bits"),
        (wide, "20000 x 2 pixels, over 4096 per side"),
        (saved(Image.new("1", (20_000, 20_000)), "group4"), "20000 x 20000 pixels, over 4096"),
    ):
        (tmp_path / "a.tif").write_bytes(data)
        for source in (tmp_path / "a.tif", io.BytesIO(data)):
            with pytest.raises(UnreadableTileError) as error:
                read_tile(source)
            assert str(error.value).startswith(reason)


def test_the_sheet_is_what_stands_before_row_and_column() -> None:
    names = {"W35A_7_58.tif": "W35A", "a_b_1_2.tif": "a_b", "photo.tif": "photo",
             "W35A_58.tif": "W35A_58"}  # fmt: skip
    assert {name: sheet_of(name) for name in names} == names


def test_tiles_are_found_by_their_ending_in_any_case_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("no/B_1_2.TIF", "yes/A_1_2.tif", "yes/A_1_10.tiff", "yes/manifest", "yes/a.png",
                 "no/north/far/c.tif"):  # fmt: skip
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    assert find_tiles(tmp_path / "images", tmp_path) == [
        Tile("images/no/B_1_2.TIF", "no", "B"),
        Tile("images/no/north/far/c.tif", "no", "c"),
        Tile("images/yes/A_1_10.tiff", "yes", "A"),
        Tile("images/yes/A_1_2.tif", "yes", "A"),
    ]


def test_a_missing_or_empty_class_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    with pytest.raises(CapetownError, match=r"no: no tiles \(\*\.tif\)"):
        find_tiles(tmp_path, tmp_path)
    (tmp_path / "no" / "A_1_1.tif").touch()
    with pytest.raises(CapetownError, match="yes: no such folder"):
        find_tiles(tmp_path, tmp_path)


def test_the_digest_is_of_the_pixels_and_not_of_the_file(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw")
    assert pixel_digest(read_tile(tmp_path / "a.tif")) == pixel_digest(RGB)
    assert pixel_digest(RGB) != pixel_digest(RGB[::-1])
    assert pixel_digest(RGB) != pixel_digest(RGB.reshape(32, 24, 3))


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb"},
        {"photometric": "minisblack", "compression": "zlib"},
        {"photometric": "minisblack", "compression": "lzw", "predictor": True},
    ],
)
def test_planes_are_bands_whatever_the_file_calls_them(options: dict[str, Any]) -> None:
    for pixels in (deep(RGB), FIVE):
        file = tiff(planes(pixels), planarconfig="separate", **options)
        np.testing.assert_array_equal(read(file), RGB)


def test_twelve_bits_in_sixteen_need_a_range() -> None:
    twelve = np.rint(RGB.astype(float) * 4095 / 255).astype(np.uint16)
    packed = tiff(twelve, photometric="rgb", bitspersample=12)
    np.testing.assert_array_equal(read(packed), RGB)
    in_sixteen = tiff(twelve, photometric="rgb")
    with pytest.raises(UnreadableTileError, match=r"no value over \d+; .* tiles\.scale$"):
        read(in_sixteen)
    np.testing.assert_array_equal(read(in_sixteen, scale=[0, 4095]), RGB)
    np.testing.assert_array_equal(read(tiff(np.zeros_like(twelve), photometric="rgb")), 0 * RGB)


def test_signed_and_float_pixels_need_a_range() -> None:
    signed = (RGB.astype(np.int16) - 128).astype(np.int8)
    with pytest.raises(UnreadableTileError, match="pixels of type int8: signed"):
        read(tiff(signed, photometric="rgb"))
    np.testing.assert_array_equal(read(tiff(signed, photometric="rgb"), scale=[-128, 127]), RGB)
    shares = RGB.astype(np.float32) / 255
    shares[0, 0] = np.nan
    found = read(tiff(shares, photometric="rgb"), scale=[0, 1])
    np.testing.assert_array_equal(found[1:], RGB[1:])
    assert found[0, 0].tolist() == [0, 0, 0]


def test_percentiles_are_the_tiles_own() -> None:
    ramp = np.arange(101, dtype=np.float64)[None, :].repeat(3, 0)[..., None].repeat(3, 2)
    found = read(tiff(ramp, photometric="rgb"), scale="percentile")[0, :, 0]
    # The 2nd and the 98th of 0 to 100 are 2 and 98.
    assert found[[0, 2, 50, 98, 100]].tolist() == [0, 0, 128, 255, 255]
    flat = tiff(np.full((4, 4, 3), 7, np.uint16), photometric="rgb")
    assert not read(flat, scale="percentile").any()


def test_a_range_beyond_the_bits_is_refused() -> None:
    with pytest.raises(UnreadableTileError, match=r"over 255, but tiles\.scale ends at 4095"):
        read(tiff(RGB, photometric="rgb"), scale=[0, 4095])


def test_bands_are_the_ones_asked_for() -> None:
    four = tiff(FOUR, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read(four, bands=[4, 1, 2]), FOUR[..., [3, 0, 1]])
    grey = tiff(RGB[..., 0], photometric="minisblack")
    with pytest.raises(UnreadableTileError, match=r"has 1 bands, but tiles\.bands asks for 3"):
        read(grey, bands=[1, 2, 3])
    two = tiff(RGB[..., :2], photometric="minisblack", planarconfig="contig")
    with pytest.raises(UnreadableTileError, match=r"2 bands, neither grey nor RGB"):
        read(two)
    np.testing.assert_array_equal(read(two, bands=[2, 1, 1]), RGB[..., [1, 0, 0]])


def test_premultiplied_alpha_is_divided_out() -> None:
    stored = np.array([[[50, 100, 25, 128], [0, 0, 0, 0], [9, 8, 7, 255]]], np.uint8)
    straight = tiff(stored, photometric="rgb", extrasamples=["unassalpha"])
    assert read(straight).tolist() == stored[..., :3].tolist()
    multiplied = tiff(stored, photometric="rgb", extrasamples=["assocalpha"])
    assert read(multiplied).tolist() == [[[100, 199, 50], [0, 0, 0], [9, 8, 7]]]
    # No product exceeds its alpha, so this tag is wrong.
    stored = np.array([[[50, 200, 25, 128], [7, 7, 7, 0]]], np.uint8)
    mislabelled = tiff(stored, photometric="rgb", extrasamples=["assocalpha"])
    assert read(mislabelled).tolist() == stored[..., :3].tolist()


def test_ycbcr_of_other_coefficients_than_jpegs_is_refused() -> None:
    assert read(tiff(RGB, photometric="ycbcr")).shape == RGB.shape
    bt709 = (529, "2I", 3, (2126, 10000, 7152, 10000, 722, 10000), True)
    with pytest.raises(UnreadableTileError, match="cannot show YCBCR, 3 bands of 8 bits"):
        read(tiff(RGB, photometric="ycbcr", extratags=[bt709]))


def test_a_colour_map_of_8_bits_is_as_bright_as_one_of_16() -> None:
    indices = RGB[..., 0]
    colours = np.arange(256, dtype=np.uint16)[::-1][None].repeat(3, 0)
    for colormap in (colours, colours * 257, colours << 8):
        file = tiff(indices, photometric="palette", colormap=colormap)
        np.testing.assert_array_equal(read(file), 255 - GREY)


def test_omitted_blocks_are_black() -> None:
    file = tiff(RGB, photometric="rgb", rowsperstrip=8, compression="zlib")
    with tifffile.TiffFile(file) as opened:
        tags = opened.pages.first.tags
        offsets, counts = list(tags[273].value), list(tags[279].value)
    offsets[1] = counts[1] = 0
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as opened:
        opened.pages.first.tags[273].overwrite(offsets)
        opened.pages.first.tags[279].overwrite(counts)
    expected = RGB.copy()
    expected[8:16] = 0
    np.testing.assert_array_equal(read(file), expected)


def test_a_compression_that_cannot_be_read_is_named() -> None:
    file = tiff(RGB, photometric="rgb")
    with tifffile.TiffFile(file, mode="r+") as opened:
        opened.pages.first.tags[259].overwrite(32809)
    with pytest.raises(UnreadableTileError, match="cannot decompress THUNDERSCAN"):
        read(file)


def test_decoders_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for compression in ("lzw", "zlib", "jpeg", "zstd"):
        data = bytearray(tiff(RGB, photometric="rgb", compression=compression).getvalue())
        with tifffile.TiffFile(io.BytesIO(data)) as opened:
            start = opened.pages.first.dataoffsets[0]
        data[start + 20 : start + 40] = bytes(20)
        with contextlib.suppress(UnreadableTileError):
            read(io.BytesIO(bytes(data)))
    assert capfd.readouterr() == ("", "")


def test_images_that_are_no_tiles_are_named(tmp_path: Path) -> None:
    for name in ("yes/A_1_1.tif", "no/A_1_2.TIF", "yes/manifest", "no/notes.txt",
                 "yes/2020/A_1_3.tif", "Yes/A_1_4.tif", "A_1_5.tiff", "yes/A_1_6.png"):  # fmt: skip
        (tmp_path / "pools" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pools" / name).touch()
    elsewhere = "not in pools/yes or pools/no"
    assert stray_images(tmp_path / "pools", tmp_path) == [
        ("pools/A_1_5.tiff", elsewhere),
        ("pools/Yes/A_1_4.tif", elsewhere),
        ("pools/yes/A_1_6.png", "not a TIFF file"),
    ]
