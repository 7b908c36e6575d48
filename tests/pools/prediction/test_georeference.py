"""Predictions are located by tags or world files, and the output opens in GIS tools."""

import json
from pathlib import Path

import geopandas
import h3
import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from pyproj import Transformer

from capetown.imagery.reading import read_tile, resize
from capetown.pools.model.manifest import TrainingSummary, save_model
from capetown.pools.model.saliency import saliency_maps, strongest_points
from tests.imagery import GRID, NORTH, TILE, UTM, WEST, WORLD, geotiff
from tests.pools.prediction import CARD, Model, Predict, Refusal

SCHEMA = json.loads(Path(__file__).with_name("geoparquet-1.1.0.schema.json").read_text())
LOCATION = ["location_source", "h3_index", "longitude", "latitude", "geometry"]
TO_EARTH = Transformer.from_crs(UTM, "EPSG:4326")


def with_world_file(folder: Path, name: str, world: str, text: str = WORLD) -> Path:
    """A tile without location tags, and a world file beside it."""
    Image.fromarray(TILE).save(folder / name)
    (folder / world).write_text(text)
    return folder / name


def test_the_centre_and_the_cell_follow_the_tags(predict: Predict, tmp_path: Path) -> None:
    row = predict("out.parquet", geotiff(tmp_path / "a.tif")).iloc[0]
    latitude, longitude = TO_EARTH.transform(WEST + 50, NORTH - 50)
    assert (row["latitude"], row["longitude"]) == pytest.approx((latitude, longitude), abs=1e-8)
    assert row["h3_index"] == h3.latlng_to_cell(latitude, longitude, 8)


def test_a_world_file_equals_tags(predict: Predict, tmp_path: Path) -> None:
    """Its CRS is given by the user or a file."""
    folder = tmp_path / "world"
    folder.mkdir()
    pairs = {"1.tif": "tfw", "2.png": "pgw", "3.jpg": "jgw", "4.jpeg": "jpegw", "5.TIF": "TFW",
             "6.png": "wld", "7.jpg": "jgwx"}  # fmt: skip
    paths = [with_world_file(folder, name, f"{name[0]}.{world}") for name, world in pairs.items()]
    tagged = predict("tags.csv", geotiff(tmp_path / "tags.tif")).loc[[0] * 7, LOCATION]
    by_option = predict("option.csv", folder, "--crs", UTM)
    assert by_option[LOCATION].equals(tagged.reset_index(drop=True))
    for path in paths:
        crs = rasterio.CRS.from_string(UTM).to_wkt(version="WKT1_ESRI")
        path.with_suffix(".prj").write_text(crs)
    assert predict("beside.csv", *paths)[LOCATION].equals(by_option[LOCATION])


def test_an_aux_file_counts_in_both_modes(
    predict: Predict, refusal: Refusal, tmp_path: Path
) -> None:
    """GDAL writes it beside a PNG. A change of it is a change of the inputs."""
    image = tmp_path / "a.png"
    with rasterio.open(image, "w", driver="PNG", width=40, height=40, count=3, dtype="uint8",
                       crs=UTM, transform=GRID) as dataset:  # fmt: skip
        dataset.write(np.moveaxis(TILE, 2, 0))
    located = predict("tags.csv", geotiff(tmp_path / "tags.tif"))[LOCATION]
    for name, options in (("tile", ()), ("window", ("--tile-metres", "100"))):
        assert predict(f"{name}.csv", image, *options)[LOCATION].equals(located)
    aux = tmp_path / "a.png.aux.xml"
    aux.write_text(aux.read_text().replace(f"{WEST:.16e}"[:6], "2.63000"))
    assert "from other inputs" in refusal(image, "--out", tmp_path / "tile.csv").what


def test_turning_an_image_upright_keeps_its_location(predict: Predict, tmp_path: Path) -> None:
    """Stored pixels are 40 wide and 20 high. GDAL locates these, whatever the orientation."""
    image = Image.fromarray(TILE[:20])
    tags = {33550: (2.5, 2.5, 0.0), 33922: (0.0, 0.0, 0.0, WEST, NORTH, 0.0)}
    for orientation in range(1, 9):
        image.save(tmp_path / f"tags{orientation}.tif", tiffinfo={274: orientation, **tags})
        exif = Image.Exif()
        exif[274] = orientation
        image.save(tmp_path / f"world{orientation}.jpg", exif=exif)
        (tmp_path / f"world{orientation}.jgw").write_text(WORLD)
    found = predict("out.parquet", tmp_path, "--crs", UTM)
    corners = [(0, 0), (0, -50), (100, -50), (100, 0)]
    expected = [TO_EARTH.transform(WEST + x, NORTH + y)[::-1] for x, y in corners]
    outlines = shapely.from_wkb(found["geometry"])
    assert len(outlines) == 16
    for outline in outlines:
        assert outline.equals_exact(shapely.Polygon(expected), 1e-7, normalize=True)
        assert outline.exterior.is_ccw


def test_a_tile_with_an_unusable_georeference_is_still_predicted(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_world_file(tmp_path, "1.tif", "1.tfw", "nonsense")
    with_world_file(tmp_path, "2.tif", "2.tfw")
    geotiff(tmp_path / "3.tif", transform=Affine(2.5, 0, 9e9, 0, -2.5, 9e9))
    geotiff(tmp_path / "4.tif", crs='LOCAL_CS["the mason\'s",UNIT["metre",1]]')
    geotiff(tmp_path / "5.tif", crs=None)
    (tmp_path / "5.prj").write_text("[" * 100_000)
    geotiff(tmp_path / "6.tif")
    found = predict("out.csv", tmp_path)
    assert (found["error"] == "").all()
    assert found["probability"].notna().all()
    *said, fine = found["location_error"]
    named = ["world file", "--crs", " in WGS 84 / UTM zone 34S", "the mason's", "not WKT"]
    assert [text in error for text, error in zip(named, said, strict=True)] == [True] * 5
    assert fine == ""
    assert found["h3_index"].ne("").tolist() == [False] * 5 + [True]
    assert "5 tiles have an unusable location" in capsys.readouterr().out


def test_a_name_locates_a_tile_that_nothing_else_does(
    model: Model, predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless its georeference is unusable, its shape is another one, or training refuted names."""
    folder = tmp_path / "named"
    folder.mkdir()
    Image.fromarray(TILE).save(folder / "W35A_7_58.tif")
    Image.fromarray(TILE[:20]).save(folder / "W35A_7_59.tif")
    with_world_file(folder, "W35A_7_60.tif", "W35A_7_60.tfw")
    geotiff(folder / "W35A_7_61.tif")
    Image.fromarray(TILE).save(folder / "W35Z_7_58.tif")
    found = predict("named.csv", folder)
    assert found["location_source"].tolist() == ["name", "", "", "georeference", ""]
    assert [
        words in said
        for words, said in zip(["", "shape", "--crs", "", ""], found["location_error"], strict=True)
    ] == [True] * 5
    assert found["location_error"].ne("").tolist() == [False, True, True, False, False]
    place = found[["longitude", "latitude"]].iloc[0].astype(float).tolist()
    assert place == pytest.approx([18.5865, -33.8901], abs=5e-5)
    assert found["h3_index"][0] == h3.latlng_to_cell(place[1], place[0], 8)
    assert "1 tiles are located by their names alone" in capsys.readouterr().out
    half = predict("half.csv", folder / "W35A_7_58.tif", "--tile-pixels", "32")
    assert set(half["location_source"]) == {"name"}
    assert half["longitude"].astype(float).mean() == pytest.approx(place[0], abs=1e-6)
    training = TrainingSummary(
        pretrained=False, train_tiles=1, valid_tiles=1, groups=2, shared_groups=False,
        pool_share=0.5, scores={}, names="mismatch",
    )  # fmt: skip
    save_model(tmp_path / "refuted", model[0], CARD.model_copy(update={"training": training}))
    refuted = predict("refuted.csv", folder, folder=tmp_path / "refuted")
    assert refuted["location_source"].tolist() == ["", "", "", "georeference", ""]
    assert "did not fit in training" in refuted["location_error"][0]


@pytest.mark.parametrize("located", [True, False])
def test_the_file_is_geoparquet(
    located: bool, predict: Predict, tiles: Path, tmp_path: Path
) -> None:
    """It follows the standard's schema, and geopandas reads it, even without any location."""
    if located:
        geotiff(tiles / "deep" / "located.tif")
    out = tmp_path / "out.parquet"
    found = predict(out, tiles)
    assert found[[*LOCATION, "location_error"]].notna().to_numpy().sum() == 5 * located
    geo = json.loads(pq.read_metadata(out).metadata[b"geo"])
    jsonschema.validate(geo, SCHEMA)
    read = geopandas.read_parquet(out)
    assert read.crs == "OGC:CRS84"
    assert (len(read), read.geometry.notna().sum()) == (4 + located, located)
    if located:
        assert geo["columns"]["geometry"]["bbox"] == pytest.approx(read.total_bounds.tolist())


@pytest.mark.parametrize("options", [[], ["--tile-metres", "50"]])
def test_saliency_is_a_point_in_each_tile_with_a_pool_and_on_earth(
    options: list[str], predict: Predict, model: Model, tmp_path: Path
) -> None:
    """Pixels are those of the tile, whatever the size of the model's input."""
    for threshold in ("0.0", "1.0"):
        changed = CARD.model_copy(update={"threshold": float(threshold)})
        save_model(tmp_path / threshold, model[0], changed)
    image = geotiff(tmp_path / "a.tif", transform=Affine(1.25, 0, WEST, 0, -1.25, NORTH))
    found = predict("out.parquet", image, "--saliency", *options, folder=tmp_path / "0.0")
    for row in found.to_dict("records"):
        _, _, window = row["path"].partition("=")
        left, top, width, height = map(int, (window or "0,0,40,40").split(","))
        x, y = row["saliency_x"], row["saliency_y"]
        assert 0 < x < width
        assert 0 < y < height
        expected = TO_EARTH.transform(WEST + (left + x) * 1.25, NORTH - (top + y) * 1.25)
        point = (row["saliency_latitude"], row["saliency_longitude"])
        assert point == pytest.approx(expected, abs=1e-8)
    if not options:
        pixels = resize(read_tile(image), 32, "bicubic")[None]
        heat = saliency_maps(model[0].eval(), CARD, pixels, towards_yes=True)
        [share] = strongest_points(heat)
        point = (found["saliency_x"][0], found["saliency_y"][0])
        assert point == pytest.approx(share * 40, abs=0.1)
    # It needs a pool and the option.
    for name, more, folder in (("a", ["--saliency"], "1.0"), ("b", [], "0.0")):
        found = predict(f"{name}.parquet", image, *more, *options, folder=tmp_path / folder)
        assert found["saliency_x"].isna().all()
