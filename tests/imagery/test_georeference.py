"""A georeference comes from tags or a world file, turns with its image, and leads to WGS84."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from capetown.imagery.georeference import (
    Georeference,
    GeoreferenceError,
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
