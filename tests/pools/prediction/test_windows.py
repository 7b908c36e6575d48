"""Orthophotos are cut into windows that are read one by one and located."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyproj import Transformer

from capetown.imagery.windows import starts
from tests import s3
from tests.pools.prediction import Predict

UTM, WEST, NORTH = "EPSG:32734", 262000.0, 6243000.0
# Pixels of 2.5 m.
GRID = Affine(2.5, 0, WEST, 0, -2.5, NORTH)
PIXELS = np.random.default_rng(4).integers(1, 256, (100, 120, 3), dtype=np.uint8)
TO_UTM = Transformer.from_crs("OGC:CRS84", UTM, always_xy=True)


def write(path: Path, pixels: Any = PIXELS, **profile: Any) -> Path:
    height, width, count = pixels.shape
    settings = {"crs": UTM, "transform": GRID, "dtype": pixels.dtype, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, **settings
    ) as dataset:
        dataset.write(np.moveaxis(pixels, 2, 0))
    return path


def windows_of(found: pd.DataFrame) -> list[list[int]]:
    return [list(map(int, path.partition("#xywh=")[2].split(","))) for path in found["path"]]


def test_a_window_equals_a_tile_of_its_own(predict: Predict, tmp_path: Path) -> None:
    """Row by row, of the given size, the last at the end of the image, each located."""
    image = write(tmp_path / "ortho.tif")
    found = predict("out.parquet", image, "--tile-metres", "100")
    cuts = [[left, top, 40, 40] for top in (0, 30, 60) for left in (0, 40, 80)]
    assert windows_of(found) == cuts
    assert found["path"].str.startswith(f"{image}#xywh=").all()
    (tmp_path / "cut").mkdir()
    for number, (left, top, width, height) in enumerate(cuts):
        part = PIXELS[top : top + height, left : left + width]
        corner = GRID @ Affine.translation(left, top)
        write(tmp_path / "cut" / f"{number}.tif", part, transform=corner)
    alone = predict("cut.parquet", tmp_path / "cut")
    columns = ["probability", "decision", "h3_index", "longitude", "latitude", "geometry"]
    assert found[columns].equals(alone[columns])
    corner = shapely.get_coordinates(shapely.from_wkb(found["geometry"][8]))[1]
    assert TO_UTM.transform(*corner) == pytest.approx((WEST + 200, NORTH - 250), abs=0.01)


@given(st.integers(1, 5000), st.integers(1, 500), st.floats(0, 0.9))
def test_windows_cover_an_image_evenly_and_overlap_enough(
    length: int, side: int, overlap: float
) -> None:
    found = starts(length, side, overlap)
    assert found[0] == 0
    assert found[-1] + side == max(length, side)
    steps = np.diff(found)
    assert (steps <= max(1, side * (1 - overlap))).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_windows_without_data_are_left_out_and_counted(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = PIXELS.copy()
    pixels[:40, :50] = 0
    image = write(tmp_path / "ortho.tif", pixels, nodata=0)
    found = predict("out.csv", image, "--tile-metres", "100")
    assert len(found) == 8
    assert windows_of(found)[0] == [40, 0, 40, 40]
    assert "1 windows without data are left out" in capsys.readouterr().out
    # The second run prints the same.
    predict("out.csv", image, "--tile-metres", "100")
    assert "1 windows without data are left out" in capsys.readouterr().out


def test_tile_pixels_cuts_without_a_scale(predict: Predict, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "plain.png")
    cut = predict("out.csv", tmp_path / "plain.png", "--tile-pixels", "50",
        "--overlap", "0.5",
    )  # fmt: skip
    assert windows_of(cut)[:5] == [[round(70 / 3 * n), 0, 50, 50] for n in range(4)] + [
        [0, 25, 50, 50]
    ]
    assert (cut["location_error"] == "").all()
    row = predict("no.csv", tmp_path / "plain.png", str(write(tmp_path / "o.tif")),
        "--tile-metres", "100",
    )  # fmt: skip
    assert "--tile-pixels" in row["error"][0]
    assert (row["error"][1:] == "").all()


def test_degrees_are_converted_to_metres(predict: Predict, tmp_path: Path) -> None:
    """A degree of longitude is 92.4 km at Cape Town, one of latitude 110.9."""
    degrees = Affine(2.5 / 92_400, 0, 18.5, 0, -2.5 / 110_900, -33.9)
    image = write(tmp_path / "ortho.tif", crs="EPSG:4326", transform=degrees)
    found = predict("out.csv", image, "--tile-metres", "100")
    assert windows_of(found)[4] == [40, 30, 40, 40]


def test_a_rotated_orthophoto_has_rotated_outlines(predict: Predict, tmp_path: Path) -> None:
    turned = Affine.translation(WEST, NORTH) @ Affine.rotation(30) @ Affine.scale(2.5, -2.5)
    image = write(tmp_path / "ortho.tif", transform=turned)
    found = predict("out.parquet", image, "--tile-metres", "100")
    outline = shapely.from_wkb(found["geometry"][0])
    corners = np.column_stack(TO_UTM.transform(*shapely.get_coordinates(outline).T))
    assert corners[0] == pytest.approx((WEST, NORTH), abs=0.01)
    assert corners[3] == pytest.approx(
        (WEST + 100 * np.cos(np.pi / 6), NORTH + 100 * np.sin(np.pi / 6)), abs=0.01
    )


def test_bands_and_depths_are_read_by_the_models_rendering(
    predict: Predict, tmp_path: Path
) -> None:
    colours = {
        "alpha": np.dstack([PIXELS, np.full((100, 120), 255, np.uint8)]),
        "deep": PIXELS.astype(np.uint16) * 257,
        "grey": PIXELS[..., :1],
        "twelve": PIXELS.astype(np.uint16) * 16,
        "two": PIXELS[..., :2],
        "zfloat": PIXELS.astype(np.float32),
    }
    for name, pixels in colours.items():
        write(tmp_path / f"{name}.tif", pixels)
    plain = predict("p.csv", str(write(tmp_path / "plain.tif")), "--tile-m", "100")
    found = predict("o.csv", tmp_path / "[!p]*.tif", "--tile-m", "100")
    by_name = {
        name: rows.reset_index(drop=True)
        for name, rows in found.groupby(
            found["path"].map(lambda path: Path(path).stem.split(".")[0])
        )
    }
    for name in ("alpha", "deep"):
        assert by_name[name]["probability"].astype(float).equals(plain["probability"])
    assert (by_name["grey"]["drift"].str.contains("grey")).all()
    for name, reason in (("twelve", "4080"), ("two", "2 bands"), ("zfloat", "float32")):
        assert reason in by_name[name]["error"][0]


def test_unreadable_images_and_windows_are_rows_with_a_reason(
    predict: Predict, tmp_path: Path
) -> None:
    whole = write(tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.tif").write_bytes(whole[:100])
    write(tmp_path / "c.tif", crs='LOCAL_CS["the mason\'s",UNIT["metre",1]]')
    write(tmp_path / "d.tif", crs=None)
    write(tmp_path / "e.tif", transform=Affine(0.001, 0, WEST, 0, -0.001, NORTH))
    found = predict("out.csv", tmp_path, "--tile-metres", "100")
    by_name = found.groupby(found["path"].map(lambda path: Path(path).name[0]))["error"]
    errors = {name: list(rows) for name, rows in by_name}
    assert len(errors["a"]) == 9
    assert errors["a"][0] == ""
    assert errors["a"][-1] != ""
    assert len(errors["b"]) == 1
    assert errors["b"] != [""]
    assert "the mason's" in errors["c"][0]
    assert "--tile-pixels" in errors["c"][0]
    assert "--crs" in errors["d"][0]
    assert "100000 x 100000 pixels" in errors["e"][0]


def test_an_orthophoto_may_be_in_a_bucket_or_on_a_web_server(
    predict: Predict, tmp_path: Path, seaweed: s3.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.url)
    image = write(tmp_path / "ortho.tif", tiled=True, blockxsize=64, blockysize=64)
    seaweed.fs.put(str(image), f"{s3.PUBLIC}/ortho.tif")
    local = predict("local.csv", image, "--tile-metres", "100")
    for url in (f"s3://{s3.PUBLIC}/ortho.tif", f"{seaweed.url}/{s3.PUBLIC}/ortho.tif"):
        out = tmp_path / f"{url.partition(':')[0]}.csv"
        remote = predict(out, url, "--tile-metres", "100")
        assert remote["path"].tolist() == [p.replace(str(image), url) for p in local["path"]]
        assert remote.drop(columns="path").equals(local.drop(columns="path"))


def test_the_error_of_a_mosaic_names_the_option_that_cuts_it(
    predict: Predict, tmp_path: Path
) -> None:
    image = write(tmp_path / "ortho.tif", np.zeros((100, 5000, 3), np.uint8))
    with pytest.raises(SystemExit, match="no tile could be read"):
        predict("out.csv", image)
    [said] = pd.read_csv(tmp_path / "out.csv")["error"]
    assert "5000 x 100 pixels" in said
    assert said.endswith("; cut it into tiles with --tile-metres")


def test_a_large_orthophoto_is_never_read_whole(predict: Predict, tmp_path: Path) -> None:
    """The image has 300 MB of pixels, a window half a megabyte."""
    with rasterio.open(
        tmp_path / "ortho.tif", "w", driver="GTiff", width=10_000, height=10_000, count=3,
        dtype="uint8", crs=UTM, transform=GRID, tiled=True, sparse_ok=True, nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, 400, 400), 9, np.uint8), window=((9600, 10_000), (9600, 10_000)))
    predict("warm.csv", str(write(tmp_path / "warm.tif")))
    tracemalloc.start()
    found = predict("out.csv", tmp_path / "ortho.tif", "--tile-metres", "1000")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert windows_of(found) == [[9600, 9600, 400, 400]]
    assert peak < 60e6
