"""Tiles are located by GeoTIFF tags or world files; the output opens in GIS tools."""

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

from capetown.imagery.georeference import (
    Georeference,
    GeoreferenceError,
    find_georeference,
    outline,
    parse_world_file,
)
from capetown.imagery.reading import read_tile, resize
from capetown.pools.model.manifest import save_model
from capetown.pools.model.saliency import saliency_maps, strongest_points
from tests.pools.prediction import CARD, Model, Predict

SCHEMA = json.loads(Path(__file__).with_name("geoparquet-1.1.0.schema.json").read_text())
# A hundred metres at Cape Town's city hall, in UTM zone 34 south and in the City's own system.
UTM, WEST, NORTH = "EPSG:32734", 262000.0, 6243000.0
PIXELS = np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def geotiff(path: Path, *, crs: str | None = UTM, transform: Affine | None = None) -> Path:
    """A tile of 40 pixels of 2.5 m, located by its tags."""
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=40, count=3, dtype="uint8", crs=crs,
        transform=transform or Affine(2.5, 0, WEST, 0, -2.5, NORTH),
    ) as dataset:  # fmt: skip
        dataset.write(np.moveaxis(PIXELS, 2, 0))
    return path


def with_world_file(folder: Path, name: str, world: str, text: str) -> Path:
    """A tile without location tags, and a world file beside it."""
    Image.fromarray(PIXELS).save(folder / name)
    (folder / world).write_text(text)
    return folder / name


# The same square: a world file gives the centre of the first pixel.
WORLD = f"2.5\n0\n0\n-2.5\n{WEST + 1.25}\n{NORTH - 1.25}\n"
TO_EARTH = Transformer.from_crs(UTM, "EPSG:4326")


def test_outline_centre_and_cell_follow_the_tags(predict: Predict, tmp_path: Path) -> None:
    geotiff(tmp_path / "a.tif")
    row = predict("out.parquet", tmp_path / "a.tif").iloc[0]
    latitude, longitude = TO_EARTH.transform(WEST + 50, NORTH - 50)
    assert (row["latitude"], row["longitude"]) == pytest.approx((latitude, longitude), abs=1e-8)
    assert row["h3_index"] == h3.latlng_to_cell(latitude, longitude, 8)
    corners = shapely.get_coordinates(shapely.from_wkb(row["geometry"]))
    for (x, y), corner in zip([(0, 0), (0, -100), (100, -100), (100, 0)], corners[:4], strict=True):
        assert corner[::-1] == pytest.approx(TO_EARTH.transform(WEST + x, NORTH + y), abs=1e-8)
    assert shapely.from_wkb(row["geometry"]).exterior.is_ccw


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("a.tif", "a.tfw"), ("a.png", "a.pgw"), ("a.jpg", "a.jgw"), ("a.jpeg", "a.jpegw"),
        ("a.TIF", "a.TFW"), ("a.png", "a.wld"),
    ],
)  # fmt: skip
def test_a_world_file_equals_tags(name: str, world: str, predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    geotiff(tmp_path / "b.tif")
    with_world_file(tmp_path / "world", name, world, WORLD)
    tagged = predict("tags.csv", tmp_path / "b.tif")
    placed = predict("world.csv", tmp_path / "world", "--crs", UTM)
    columns = ["h3_index", "longitude", "latitude", "geometry"]
    assert placed[columns].equals(tagged[columns])
    (tmp_path / "world" / "a.prj").write_text(
        rasterio.CRS.from_string(UTM).to_wkt(version="WKT1_ESRI")
    )
    beside = predict("prj.csv", tmp_path / "world" / name)
    assert beside[columns].equals(tagged[columns])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tags", "world file"])
def test_turning_an_image_upright_keeps_its_location(
    orientation: int, kind: str, predict: Predict, tmp_path: Path
) -> None:
    """Stored pixels are 40 wide and 20 high. GDAL locates these, whatever the orientation."""
    if kind == "tags":
        path = tmp_path / "a.tif"
        tags = {33550: (2.5, 2.5, 0.0), 33922: (0.0, 0.0, 0.0, WEST, NORTH, 0.0)}
        Image.fromarray(PIXELS[:20]).save(path, tiffinfo={274: orientation, **tags})
    else:
        path, exif = tmp_path / "a.jpg", Image.Exif()
        exif[274] = orientation
        Image.fromarray(PIXELS[:20]).save(path, exif=exif)
        (tmp_path / "a.jgw").write_text(WORLD)
    row = predict("out.parquet", path, "--crs", UTM).iloc[0]
    found = shapely.from_wkb(row["geometry"])
    corners = [(0, 0), (0, -50), (100, -50), (100, 0)]
    expected = [TO_EARTH.transform(WEST + x, NORTH + y)[::-1] for x, y in corners]
    assert found.equals_exact(shapely.Polygon(expected), 1e-7, normalize=True)
    assert found.exterior.is_ccw


def test_a_turned_pixel_is_found_among_the_stored_ones() -> None:
    """By hand: 6 is stored with the first row to the right, 4 with the last row above."""
    place = Georeference(Affine.identity(), UTM)
    # Of an upright image 20 wide and 40 high, which is stored 40 wide and 20 high.
    assert place.upright(6, 20, 40).transform @ (20, 0) == (0, 0)
    assert place.upright(6, 20, 40).transform @ (20, 40) == (40, 0)
    assert place.upright(8, 20, 40).transform @ (0, 40) == (0, 0)
    assert place.upright(4, 40, 20).transform @ (10, 20) == (10, 0)
    assert place.upright(2, 40, 20).transform @ (40, 5) == (0, 5)
    assert place.upright(1, 40, 20) == place


@pytest.mark.parametrize("crs", ["EPSG:2048", "ESRI:102562"])
def test_the_citys_crs_is_read_as_easting_and_northing(crs: str) -> None:
    """Files in EPSG:2048 count easting and northing, though it defines westing and southing."""
    place = Georeference(Affine(0.08, 0, -53000, 0, -0.08, -3755000), crs)
    here = outline(place, 1250, 1250)
    assert (here.longitude, here.latitude) == pytest.approx((18.4273, -33.9207), abs=1e-3)
    # A file that follows the definition: x falls to the right, y rises downwards.
    literal = Georeference(Affine(-0.08, 0, 53000, 0, 0.08, 3755000), "EPSG:2048")
    assert outline(literal, 1250, 1250).corners == pytest.approx(here.corners)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one\ntwo\n0\n0\n0\n0",
        "1\n0\n0\n-1\n5",
        "nan\n0\n0\n-1\n5\n5",
        "1\n0\n0\n-1\ninf\n5",
        "\xff\xfe\x00",
        "1\n1\n1\n1\n5\n5",
    ],
)
def test_invalid_world_files_are_refused(text: str) -> None:
    with pytest.raises(GeoreferenceError, match="world file"):
        parse_world_file(text.encode("latin-1"))


def test_a_tile_with_an_unusable_georeference_is_still_predicted(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    with_world_file(folder, "1.tif", "1.tfw", "nonsense")
    with_world_file(folder, "2.tif", "2.tfw", WORLD)
    with_world_file(folder, "3.tif", "3.tfw", WORLD)
    (folder / "3.prj").write_text(UTM)
    geotiff(folder / "4.tif", transform=Affine(2.5, 0, 9e9, 0, -2.5, 9e9))
    geotiff(folder / "5.tif", crs='LOCAL_CS["the mason\'s",UNIT["metre",1]]')
    geotiff(folder / "6.tif", crs=None)
    found = predict("out.csv", folder)
    assert (found["error"] == "").all()
    assert found["probability"].notna().all()
    said = found["location_error"].tolist()
    named = ["world file", "--crs", "", " in WGS 84 / UTM zone 34S", "the mason's", "--crs"]
    assert [text in error for text, error in zip(named, said, strict=True)] == [True] * 6
    assert [error == "" for error in said] == [False, False, True, False, False, False]
    assert found["h3_index"].ne("").tolist() == [False, False, True, False, False, False]
    assert "5 tiles have an unusable georeference" in capsys.readouterr().out


def test_without_a_georeference_the_location_columns_are_empty(
    predict: Predict, tiles: Path, tmp_path: Path
) -> None:
    found = predict("out.parquet", tiles)
    assert (
        found[["h3_index", "longitude", "latitude", "geometry", "location_error"]]
        .isna()
        .all(axis=None)
    )
    assert len(geopandas.read_parquet(tmp_path / "out.parquet")) == 4


@pytest.mark.parametrize("located", [True, False])
def test_the_file_is_geoparquet(
    located: bool, predict: Predict, tiles: Path, tmp_path: Path
) -> None:
    """It follows the standard's schema, and geopandas reads it."""
    if located:
        geotiff(tiles / "deep" / "located.tif")
    out = tmp_path / "out.parquet"
    predict(out, tiles)
    geo = json.loads(pq.read_metadata(out).metadata[b"geo"])
    jsonschema.validate(geo, SCHEMA)
    read = geopandas.read_parquet(out)
    assert read.crs == "OGC:CRS84"
    assert read.geometry.notna().sum() == located
    if located:
        assert geo["columns"]["geometry"]["bbox"] == pytest.approx(read.total_bounds.tolist())


def test_tags_precede_a_world_file_and_give_it_their_crs(tmp_path: Path) -> None:
    tagged = geotiff(tmp_path / "a.tif").read_bytes()
    elsewhere = b"1\n0\n0\n-1\n0\n0\n"
    place = find_georeference(tagged, elsewhere, None, "EPSG:2048")
    assert place is not None
    assert place.transform == Affine(2.5, 0, WEST, 0, -2.5, NORTH)
    with rasterio.open(tmp_path / "b.tif", "w", driver="GTiff", width=4, height=4, count=1,
                       dtype="uint8", crs=UTM) as dataset:  # fmt: skip
        dataset.write(np.zeros((1, 4, 4), np.uint8))
    untagged = find_georeference(
        (tmp_path / "b.tif").read_bytes(), WORLD.encode(), None, "EPSG:2048"
    )
    assert untagged is not None
    assert untagged.transform.almost_equals(place.transform)
    assert rasterio.CRS.from_wkt(untagged.crs).to_epsg() == 32734


@pytest.mark.parametrize("options", [[], ["--tile-metres", "50"]])
def test_saliency_is_a_point_in_each_tile_with_a_pool_and_on_earth(
    options: list[str], predict: Predict, model: Model, tmp_path: Path
) -> None:
    """Pixels are those of the tile, whatever the size of the model's input."""
    save_model(tmp_path / "eager", model[0], CARD.model_copy(update={"threshold": 0.0}))
    image = geotiff(tmp_path / "a.tif", transform=Affine(1.25, 0, WEST, 0, -1.25, NORTH))
    found = predict("out.parquet", image, "--saliency", *options, folder=tmp_path / "eager")
    assert found["saliency_x"].notna().all()
    for row in found.to_dict("records"):
        _, _, window = row["path"].partition("=")
        left, top, width, height = map(int, (window or "0,0,40,40").split(","))
        x, y = row["saliency_x"], row["saliency_y"]
        assert 0 < x < width
        assert 0 < y < height
        expected = TO_EARTH.transform(WEST + (left + x) * 1.25, NORTH - (top + y) * 1.25)
        point = (row["saliency_latitude"], row["saliency_longitude"])
        assert point == pytest.approx(expected, abs=1e-8)
    pixels = resize(read_tile(image), 32, "bicubic")[None]
    if not options:
        heat = saliency_maps(model[0].eval(), CARD, pixels, towards_yes=True)
        [share] = strongest_points(heat)
        assert (found["saliency_x"][0], found["saliency_y"][0]) == pytest.approx(
            share * 40, abs=0.1
        )


def test_saliency_needs_the_option_and_a_pool(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    save_model(tmp_path / "shy", model[0], CARD.model_copy(update={"threshold": 1.0}))
    image = str(geotiff(tmp_path / "a.tif"))
    for folder, more in ((model[1], []), (tmp_path / "shy", ["--saliency"])):
        found = predict(f"{len(more)}.csv", image, *more, folder=folder)
        assert found["saliency_x"].tolist() == [""] or found["saliency_x"].isna().all()
