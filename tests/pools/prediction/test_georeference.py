"""Tiles get their place on Earth, by GeoTIFF tags or world files, in a file that GIS tools open."""

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
from torch import nn

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
from tests.pools.prediction import CARD, predict

SCHEMA = json.loads(Path(__file__).with_name("geoparquet-1.1.0.schema.json").read_text())
# A hundred metres at Cape Town's city hall, in UTM zone 34 south and in the City's own system.
UTM, WEST, NORTH = "EPSG:32734", 262000.0, 6243000.0
PIXELS = np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def geotiff(path: Path, *, crs: str | None = UTM, transform: Affine | None = None) -> Path:
    """A tile of 40 pixels of 2.5 m, placed by its tags."""
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=40, count=3, dtype="uint8", crs=crs,
        transform=transform or Affine(2.5, 0, WEST, 0, -2.5, NORTH),
    ) as dataset:  # fmt: skip
        dataset.write(np.moveaxis(PIXELS, 2, 0))
    return path


def with_world_file(folder: Path, name: str, world: str, text: str) -> Path:
    """A tile without tags of its place, and a world file beside it."""
    Image.fromarray(PIXELS).save(folder / name)
    (folder / world).write_text(text)
    return folder / name


# Of the same square: the centre of the first pixel lies half a pixel inside.
WORLD = f"2.5\n0\n0\n-2.5\n{WEST + 1.25}\n{NORTH - 1.25}\n"
TO_EARTH = Transformer.from_crs(UTM, "EPSG:4326")


def test_outline_centre_and_cell_are_those_of_the_tags(
    model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    geotiff(tmp_path / "a.tif")
    row = predict(model[1], tmp_path / "out.parquet", str(tmp_path / "a.tif")).iloc[0]
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
def test_a_world_file_says_the_same_as_tags(
    name: str, world: str, model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    (tmp_path / "world").mkdir()
    geotiff(tmp_path / "b.tif")
    with_world_file(tmp_path / "world", name, world, WORLD)
    tagged = predict(model[1], tmp_path / "tags.csv", str(tmp_path / "b.tif"))
    placed = predict(model[1], tmp_path / "world.csv", str(tmp_path / "world"), "--crs", UTM)
    columns = ["h3_index", "longitude", "latitude", "geometry"]
    assert placed[columns].equals(tagged[columns])
    (tmp_path / "world" / "a.prj").write_text(
        rasterio.CRS.from_string(UTM).to_wkt(version="WKT1_ESRI")
    )
    beside = predict(model[1], tmp_path / "prj.csv", str(tmp_path / "world" / name))
    assert beside[columns].equals(tagged[columns])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tags", "world file"])
def test_an_image_that_is_turned_to_be_seen_stays_where_it_is(
    orientation: int, kind: str, model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    """What is stored is 40 pixels wide and 20 high; GDAL places that, whatever its orientation."""
    if kind == "tags":
        path = tmp_path / "a.tif"
        tags = {33550: (2.5, 2.5, 0.0), 33922: (0.0, 0.0, 0.0, WEST, NORTH, 0.0)}
        Image.fromarray(PIXELS[:20]).save(path, tiffinfo={274: orientation, **tags})
    else:
        path, exif = tmp_path / "a.jpg", Image.Exif()
        exif[274] = orientation
        Image.fromarray(PIXELS[:20]).save(path, exif=exif)
        (tmp_path / "a.jgw").write_text(WORLD)
    row = predict(model[1], tmp_path / "out.parquet", str(path), "--crs", UTM).iloc[0]
    found = shapely.from_wkb(row["geometry"])
    corners = [(0, 0), (0, -50), (100, -50), (100, 0)]
    expected = [TO_EARTH.transform(WEST + x, NORTH + y)[::-1] for x, y in corners]
    assert found.equals_exact(shapely.Polygon(expected), 1e-7, normalize=True)
    assert found.exterior.is_ccw


def test_pixels_of_a_turned_image_are_those_that_are_stored() -> None:
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
def test_the_citys_own_system_is_read_as_its_files_are_written(crs: str) -> None:
    """As easting and northing, below zero, though EPSG:2048 counts westing and southing."""
    place = Georeference(Affine(0.08, 0, -53000, 0, -0.08, -3755000), crs)
    here = outline(place, 1250, 1250)
    assert (here.longitude, here.latitude) == pytest.approx((18.4273, -33.9207), abs=1e-3)
    # One that is written as it counts: x falls to the right, y rises downwards.
    literal = Georeference(Affine(-0.08, 0, 53000, 0, 0.08, 3755000), "EPSG:2048")
    assert outline(literal, 1250, 1250).corners == pytest.approx(here.corners)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the world file is not six numbers"),
        ("one\ntwo\n0\n0\n0\n0", "the world file is not six numbers"),
        ("1\n0\n0\n-1\n5", "the world file is not six numbers"),
        ("nan\n0\n0\n-1\n5\n5", "the world file is not six numbers"),
        ("1\n0\n0\n-1\ninf\n5", "the world file is not six numbers"),
        ("\xff\xfe\x00", "the world file is not six numbers"),
        ("1\n1\n1\n1\n5\n5", "the pixels of the world file have no area"),
    ],
)
def test_a_world_file_that_is_nonsense_is_said(text: str, said: str) -> None:
    with pytest.raises(GeoreferenceError, match=said):
        parse_world_file(text.encode("latin-1"))


def test_a_place_that_cannot_be_used_is_said_beside_the_probability(
    model: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    found = predict(model[1], tmp_path / "out.csv", str(folder))
    assert (found["error"] == "").all()
    assert found["probability"].notna().all()
    said = found["place_error"].tolist()
    assert said[0] == "the world file is not six numbers"
    assert said[1].startswith("has no CRS; name it with --crs")
    assert said[2] == ""
    assert said[3].endswith(" are not valid coordinates")
    assert said[4] == "the mason's has no transformation to WGS84"
    assert said[5] == said[1]
    assert found["h3_index"].ne("").tolist() == [False, False, True, False, False, False]
    assert "5 tiles have no place that can be used" in capsys.readouterr().out


def test_without_georeference_the_columns_are_empty_and_it_is_said(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = predict(model[1], tmp_path / "out.parquet", str(tiles))
    assert "no tile says where it lies" in capsys.readouterr().out
    assert (
        found[["h3_index", "longitude", "latitude", "geometry", "place_error"]]
        .isna()
        .all(axis=None)
    )
    assert len(geopandas.read_parquet(tmp_path / "out.parquet")) == 4


@pytest.mark.parametrize("placed", [True, False])
def test_the_file_is_geoparquet(
    placed: bool, model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path
) -> None:
    """By the standard's own schema, and as geopandas reads it."""
    if placed:
        geotiff(tiles / "deep" / "placed.tif")
    out = tmp_path / "out.parquet"
    predict(model[1], out, str(tiles))
    geo = json.loads(pq.read_metadata(out).metadata[b"geo"])
    jsonschema.validate(geo, SCHEMA)
    read = geopandas.read_parquet(out)
    assert read.crs == "OGC:CRS84"
    assert read.geometry.notna().sum() == placed
    if placed:
        assert geo["columns"]["geometry"]["bbox"] == pytest.approx(read.total_bounds.tolist())


def test_tags_come_before_a_world_file_and_lend_it_their_crs(tmp_path: Path) -> None:
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


def test_a_crs_that_is_none_is_one_line(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="EPSG:99999 has no transformation to WGS84"):
        predict(model[1], tmp_path / "out.csv", str(tiles), "--crs", "EPSG:99999")


@pytest.mark.parametrize("options", [[], ["--tile-metres", "50"]])
def test_evidence_points_into_each_tile_with_a_pool_and_to_its_place(
    options: list[str], model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    """In pixels of the tile and on Earth, whatever the size of the model's input."""
    save_model(tmp_path / "eager", model[0], CARD.model_copy(update={"threshold": 0.0}))
    image = geotiff(tmp_path / "a.tif", transform=Affine(1.25, 0, WEST, 0, -1.25, NORTH))
    out = tmp_path / "out.parquet"
    found = predict(tmp_path / "eager", out, str(image), "--evidence", *options)
    assert found["evidence_x"].notna().all()
    for row in found.to_dict("records"):
        _, _, window = row["path"].partition("=")
        left, top, width, height = map(int, (window or "0,0,40,40").split(","))
        x, y = row["evidence_x"], row["evidence_y"]
        assert 0 < x < width
        assert 0 < y < height
        expected = TO_EARTH.transform(WEST + (left + x) * 1.25, NORTH - (top + y) * 1.25)
        point = (row["evidence_latitude"], row["evidence_longitude"])
        assert point == pytest.approx(expected, abs=1e-8)
    pixels = resize(read_tile(image), 32, "bicubic")[None]
    if not options:
        heat = saliency_maps(model[0].eval(), CARD, pixels, towards_yes=True)
        [share] = strongest_points(heat)
        assert (found["evidence_x"][0], found["evidence_y"][0]) == pytest.approx(
            share * 40, abs=0.1
        )


def test_without_being_asked_for_or_a_pool_there_is_no_evidence(
    model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    save_model(tmp_path / "shy", model[0], CARD.model_copy(update={"threshold": 1.0}))
    image = str(geotiff(tmp_path / "a.tif"))
    for folder, more in ((model[1], []), (tmp_path / "shy", ["--evidence"])):
        found = predict(folder, tmp_path / f"{len(more)}.csv", image, *more)
        assert found["evidence_x"].tolist() == [""] or found["evidence_x"].isna().all()
