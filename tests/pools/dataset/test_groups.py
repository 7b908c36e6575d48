"""Groups come from the best source that has one for every tile, and the source is recorded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from capetown.errors import CapetownError
from capetown.imagery.georeference import Outline
from capetown.imagery.reducing import reduce_tile
from capetown.params import GroupsSource, load_params
from capetown.pools.dataset.groups import block_of, group_tiles, read_groups, subfolder
from capetown.pools.dataset.listing import Tile, sheet_of
from capetown.pools.dataset.locations import Locations, locate_tiles
from capetown.pools.dataset.neighbours import count_neighbours
from tests import ROOT
from tests.imagery import NORTH, UTM, WEST, geotiff

SETTINGS = load_params(ROOT / "params.yaml").split
YES = "images/swimming-pool/yes"
NAMED, PLAIN = ["S_1_1.tif", "S_1_2.tif", "T_1_1.tif"], ["a.tif", "b.tif", "c.tif"]
FOLDERS = ["x/a.tif", "x/b.tif", "y/z/c.tif"]


def tiles_of(names: list[str]) -> list[Tile]:
    return [Tile(f"{YES}/{name}", "yes", sheet_of(name)) for name in names]


def at(*eastings: float | None) -> Locations:
    """Tiles that are this far east in degrees, on the equator; None is unknown."""
    corners = np.zeros((4, 2))
    return Locations(
        [None if e is None else Outline(corners, e, 0) for e in eastings],
        ["" if e is None else "georeference" for e in eastings],
        ["" if e is not None else "has no CRS" for e in eastings],
    )


NOWHERE, HERE, PARTLY = at(None, None, None), at(3.001, 3.002, 3.02), at(3.001, None, 3.02)


@pytest.mark.parametrize(
    ("names", "table", "locations", "strategy", "source", "together", "lacking"),
    [
        (NAMED, ["1", "2", "1"], HERE, "block", "table", [0, 2], []),
        (NAMED, None, HERE, "block", "georeference", [0, 1], []),
        (NAMED, None, HERE, "sheet", "names", [0, 1], []),
        (NAMED, None, PARTLY, "block", "names", [0, 1], ["1 of 3 tiles lack a georeference"]),
        (FOLDERS, None, NOWHERE, "block", "folders", [0, 1], []),
        (FOLDERS, None, PARTLY, "block", "folders", [0, 1], ["yes/x/b.tif (has no CRS)"]),
        (PLAIN, None, NOWHERE, "block", "none", [0], []),
        (PLAIN, None, PARTLY, "block", "none", [0], ["1 of 3 tiles lack a georeference"]),
        # Named tiles stay together where others are not named, but nothing is claimed.
        ([*NAMED[:2], "c.tif"], None, NOWHERE, "sheet", "none", [0, 1], ["1 of 3 tiles lack a n"]),
    ],
)  # fmt: skip
def test_the_best_source_that_has_a_group_for_all_tiles_is_taken(
    names: list[str], table: list[str] | None, locations: Locations, strategy: str,
    source: GroupsSource, together: list[int], lacking: list[str],
) -> None:  # fmt: skip
    tiles = tiles_of(names)
    rows = {t.path: group for t, group in zip(tiles, table or [], strict=False)}
    how = SETTINGS.model_copy(update={"strategy": strategy})
    found = group_tiles(tiles, rows, locations, how)
    groups = [tile.group for tile in found.tiles]
    assert found.source == source
    assert [n for n, group in enumerate(groups) if group == groups[0]] == together
    notes = [*lacking, *(["the split is random"] if source == "none" else [])]
    assert [said for said, note in zip(notes, found.notes, strict=True) if said not in note] == []
    assert [replace(t, sheet="", group="") for t in found.tiles] == [
        replace(t, sheet="") for t in tiles
    ]


def test_blocks_are_squares_of_the_utm_grid() -> None:
    """Zone 31 has its central meridian, easting 500,000, at 3 degrees east."""
    zero = np.zeros((4, 2))
    assert block_of(Outline(zero, 3.001, 0.001), 1000) == "31_500_0"
    assert block_of(Outline(zero, 2.999, -0.001), 1000) == "31_499_-1"
    assert block_of(Outline(zero, 3.001, 0.001), 50) == "31_10002_2"
    assert block_of(Outline(zero, 180, 0), 1000) == block_of(Outline(zero, -180, 0), 1000)


def test_the_subfolder_is_below_the_class_folder() -> None:
    paths = {f"{YES}/a.tif": "", f"{YES}/x/a.tif": "x", f"{YES}/x/no/a.tif": "x/no"}
    assert {path: subfolder(path) for path in paths} == paths


def test_georeferenced_tiles_are_located_in_every_way_that_predict_knows(tmp_path: Path) -> None:
    """Ten tiles in a row, 100 m each: the first 5 in one block of 500 m, the others in the next."""
    folder = tmp_path / YES
    folder.mkdir(parents=True)
    for column in range(10):
        pixels, path = np.full((80, 80, 3), column, np.uint8), folder / f"nice_{column:04}.tif"
        left = WEST + 100 * column
        geotiff(path, pixels, transform=Affine(1.25, 0, left, 0, -1.25, NORTH))
        if column % 3 == 1:  # as `download` keeps it
            path.write_bytes(reduce_tile(path.read_bytes(), 40))
        if column % 3 == 2:
            Image.fromarray(pixels).save(path)
            path.with_suffix(".TFW").write_text(
                f"1.25\n0\n0\n-1.25\n{left + 0.625}\n{NORTH - 0.625}"
            )
            path.write_bytes(reduce_tile(path.read_bytes(), 40))
            path.with_suffix(".prj").write_text(rasterio.CRS.from_string(UTM).to_wkt())
    tiles = tiles_of([path.name for path in sorted(folder.glob("*.tif"))])
    located = locate_tiles(tiles, tmp_path)
    found = group_tiles(tiles, {}, located, SETTINGS.model_copy(update={"block_metres": 500}))
    assert (found.source, found.notes) == ("georeference", [])
    groups = [tile.group for tile in found.tiles]
    assert len(set(groups[:5])) == len(set(groups[5:])) == 1
    assert groups[0] != groups[5]
    assert count_neighbours(["a"] * 5 + ["b"] * 5, located.outlines) == (9, 1)
    # Without its CRS, a world file does not locate a tile.
    (folder / "nice_0002.prj").unlink()
    assert "CRS" in locate_tiles(tiles, tmp_path).errors[2]


def test_a_table_names_tiles_by_path_or_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiles, file = tiles_of(["x/a.tif", "b.tif", "c.tif"]), tmp_path / "groups.csv"
    file.write_text("path,group\n")
    assert read_groups(file, tiles) == {}
    file.write_text(f"\ufeffpath,group\na.tif,1\nyes/b.tif,1\n{YES}/c.tif,2\ngone.tif,2\n", "utf-8")
    assert list(read_groups(file, tiles).values()) == ["1", "1", "2"]
    assert "1 paths are unknown, such as gone.tif" in caplog.text


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        (None, "no such file", "split.groups"),
        ("a.tif,1\n", "the header is 'a.tif,1'", "first line"),
        ("path,group,group\na.tif,1,2\n", "'path,group,group', not 'path,group'", "no other"),
        ("path;group\na.tif;1\n", "'path;group', not 'path,group'", "commas"),
        ("path,group\na.tif,1\na.tif,2\n", "a.tif has two groups", "keep one"),
        ("path,group\na.tif,\n", "'a.tif,' is not a path and a group", "two values"),
        ("path,group\na.tif,1\n", f"2 of 3 tiles are not in it, such as {YES}/b.tif", "add"),
    ],
)
def test_a_table_that_misses_tiles_is_refused(
    tmp_path: Path, text: str | None, what: str, fix: str
) -> None:
    file = tmp_path / "groups.csv"
    if text:
        file.write_text(text)
    with pytest.raises(CapetownError) as error:
        read_groups(file, tiles_of(PLAIN))
    assert error.value.where == str(file)
    assert what in error.value.what
    assert fix in error.value.fix
