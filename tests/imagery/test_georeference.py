"""A georeference comes from tags or a world file, turns with its image, and leads to WGS84."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from capetown.imagery.georeference import (
    Georeference,
    GeoreferenceError,
    Outline,
    check_crs,
    find_georeference,
    outline,
    parse_world_file,
    tags_of_file,
)
from capetown.imagery.tile_ref import Sidecars
from tests.imagery import GRID, UTM, WORLD, geotiff


def test_a_turned_pixel_is_found_among_the_stored_ones() -> None:
    """By hand: 6 is stored with the first row to the right, 4 with the last row above."""
    place = Georeference(Affine.identity(), UTM)
    # The upright image is 20 wide and 40 high, the stored one 40 wide and 20 high.
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


@pytest.mark.parametrize("text", ["", "1\n0\n0\n-1\n5", "one\ntwo\n0\n0\n0\n0", "\xff\xfe\0",
    "nan\n0\n0\n-1\n5\n5", "1\n0\n0\n-1\ninf\n5", "1\n1\n1\n1\n5\n5"])  # fmt: skip
def test_invalid_world_files_are_refused(text: str) -> None:
    with pytest.raises(GeoreferenceError, match="world file"):
        parse_world_file(text.encode("latin-1"))


def test_tags_precede_a_world_file_and_give_it_their_crs(tmp_path: Path) -> None:
    (tmp_path / "other.wld").write_text("1\n0\n0\n-1\n0\n0\n")
    tagged = tags_of_file(geotiff(tmp_path / "a.tif").read_bytes())
    place = find_georeference(tagged, Sidecars(world=str(tmp_path / "other.wld")), "EPSG:2048")
    assert place is not None
    assert place.transform == GRID
    black = np.zeros((4, 4, 1), np.uint8)
    only_crs = geotiff(tmp_path / "b.tif", black, transform=Affine.identity()).read_bytes()
    (tmp_path / "b.wld").write_text(WORLD, encoding="utf-8-sig")
    placed = find_georeference(
        tags_of_file(only_crs), Sidecars(world=str(tmp_path / "b.wld")), "EPSG:2048"
    )
    assert placed is not None
    assert placed.transform.almost_equals(GRID)
    assert rasterio.CRS.from_wkt(placed.crs).to_epsg() == 32734


def of_file(path: Path, **sidecars: bytes) -> Georeference | None:
    """The georeference of a file with these sidecars and without a choice of the user."""
    urls = {}
    for kind, content in sidecars.items():
        urls[kind] = f"{path}.{kind}"
        Path(urls[kind]).write_bytes(content)
    return find_georeference(tags_of_file(path.read_bytes()), Sidecars(**urls), "")


def test_a_corrected_georeference_precedes_tags(tmp_path: Path) -> None:
    """GDAL writes the correction, as QGIS and ArcGIS do; ArcGIS keeps the CRS in another place."""
    path = geotiff(tmp_path / "a.tif", crs="EPSG:32735")
    with rasterio.open(tmp_path / "b.png", "w", driver="PNG", width=9, height=9, count=1,
                       dtype="uint8", crs=UTM, transform=GRID) as image:  # fmt: skip
        image.write(np.zeros((1, 9, 9), np.uint8))
    aux = (tmp_path / "b.png.aux.xml").read_bytes()
    place = of_file(path, aux=aux)
    assert place is not None
    assert (place.transform, rasterio.CRS.from_wkt(place.crs).to_epsg()) == (GRID, 32734)
    wkt = rasterio.CRS.from_string(UTM).to_wkt(version="WKT1_ESRI")
    esri = f"<PAMDataset><x><SpatialReference><WKT>{wkt}</WKT></SpatialReference></x></PAMDataset>"
    place = of_file(path, aux=esri.encode())
    assert place is not None
    assert place.crs == wkt


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", crs=None, transform=Affine.identity())
    wkt = rasterio.CRS.from_string(UTM).to_wkt(version="WKT1_ESRI")
    place = of_file(path, world=WORLD.encode("utf-8-sig"), prj=wkt.encode("utf-8-sig"))
    assert place is not None
    assert (place.transform.almost_equals(GRID), place.crs) == (True, wkt)


@pytest.mark.parametrize(
    "sidecars",
    [
        {"prj": b"["}, {"prj": b'{"a":' * 100_000}, {"prj": b"PROJCS[" * 10_000},
        {"prj": b"PROJCS\0"}, {"prj": b"+init=/etc/passwd:root"}, {"prj": b"WGS[" * 5_000_000},
        {"aux": b"<PAMDataset>"}, {"aux": b"<a>" * 100_000},
        {"aux": b"<a><GeoTransform>1,2</GeoTransform></a>"},
        {"aux": b"<a><GeoTransform>0,1,0,0,0,nan</GeoTransform></a>"},
        {"aux": b"<a><SRS>/vsicurl/http://127.0.0.1/a</SRS></a>"},
    ],
)  # fmt: skip
def test_a_hostile_sidecar_is_a_georeference_error(
    sidecars: dict[str, bytes], tmp_path: Path
) -> None:
    path = geotiff(tmp_path / "a.tif", crs=None)

    def located() -> Outline | None:
        place = of_file(path, **sidecars)
        return place and outline(place, 40, 40)

    with pytest.raises(GeoreferenceError):
        located()


def test_a_file_names_its_system_in_wkt_only(tmp_path: Path) -> None:
    """PROJ would read the file that the other notation names."""
    path = geotiff(tmp_path / "a.tif", crs=None)
    with pytest.raises(GeoreferenceError, match="not WKT"):
        of_file(path, prj=b"+init=/etc/passwd:root")


@pytest.mark.parametrize("crs", ['{"a":' * 100_000, "PROJCS[", "EPSG:0"])
def test_a_system_that_cannot_be_read_is_refused(crs: str) -> None:
    """pyproj raises errors of its own, and RecursionError for deep JSON."""
    with pytest.raises(GeoreferenceError):
        check_crs(crs)


@pytest.mark.parametrize("crs", ["EPSG:4978", "EPSG:5773"])
def test_only_projected_and_geographic_systems_are_used(crs: str) -> None:
    with pytest.raises(GeoreferenceError, match="neither projected nor geographic"):
        outline(Georeference(GRID, crs), 40, 40)


def test_a_tile_across_the_antimeridian_has_two_polygons() -> None:
    """Half a degree on each side. The raster may count longitudes beyond 180 or in UTM zone 60."""
    found = outline(Georeference(Affine(0.01, 0, 179.5, 0, -0.01, 10), "EPSG:4326"), 100, 100)
    boxes = [shapely.box(179.5, 9, 180, 10), shapely.box(-180, 9, -179.5, 10)]
    assert found.polygon().equals(shapely.MultiPolygon(boxes))
    assert (abs(found.longitude), found.latitude) == (180, 9.5)
    east = outline(Georeference(Affine(10, 0, 828_000, 0, -10, 1_000_000), "EPSG:32660"), 1000, 99)
    assert len(east.polygon().geoms) == 2
    assert east.polygon().area < 0.1


def test_a_raster_of_the_whole_earth_may_end_a_hair_beyond() -> None:
    whole = Affine(0.5, 0, -180 - 1e-9, 0, -0.5, 90 + 1e-9)
    assert outline(Georeference(whole, "EPSG:4326"), 720, 360).polygon().bounds == (
        -180, -90, 180, 90
    )  # fmt: skip
    eastward = outline(Georeference(Affine(0.5, 0, 0, 0, -0.5, 90), "EPSG:4326").part(420, 0), 9, 9)
    assert (eastward.longitude, eastward.latitude) == (-147.75, 87.75)
    with pytest.raises(GeoreferenceError):
        outline(Georeference(Affine(0.5, 0, -180, 0, -0.5, 91), "EPSG:4326"), 9, 9)
