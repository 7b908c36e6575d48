"""Folds never share a group or an image, and have the target shares of tiles and classes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import h3
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from capetown.city import CLASSES, HEXAGONS_FILE
from capetown.errors import CapetownError
from capetown.imagery.georeference import Outline
from capetown.params import load_params
from capetown.pools.dataset import split as folding
from capetown.pools.dataset.dataset import validity
from capetown.pools.dataset.drift import TileProfile
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.neighbours import count_neighbours
from capetown.pools.dataset.split import FOLDS, Strategy, split_tiles
from tests import ROOT
from tests.imagery import NORTH, WEST, geotiff
from tests.pools.dataset.test_locations import cut, name_at, picture


def named(name: str, label: str = "no") -> Tile:
    sheet, *block = name.split("_")[:2]
    return Tile(f"images/{name}.tif", label, sheet, "_".join([sheet, *block]))


def by_sheet(tiles: list[Tile]) -> list[Tile]:
    return [replace(tile, group=tile.sheet) for tile in tiles]


def tiles_of(sheets: dict[str, str]) -> list[Tile]:
    """One tile per letter, in blocks of three. ``{"A": "yyn"}``: two with a pool, one without."""
    return [
        named(f"{sheet}_{row // 3}_{row % 3}", "yes" if letter == "y" else "no")
        for sheet, letters in sheets.items()
        for row, letter in enumerate(letters)
    ]


def split(
    tiles: list[Tile], digests: list[str] | None = None, strategy: Strategy = "sheet", seed: int = 1
) -> list[str]:
    how = SETTINGS.model_copy(update={"strategy": strategy})
    tiles = by_sheet(tiles) if strategy == "sheet" else tiles
    return split_tiles(tiles, digests or [tile.path for tile in tiles], how, seed)


SETTINGS = load_params(ROOT / "params.yaml").split
MANY = tiles_of({f"S{n:03}": "yyn" if n % 3 else "ynnnyy" for n in range(60)})


@given(
    sheets=st.lists(st.text("yn", min_size=1, max_size=12), min_size=30, max_size=60),
    copies=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=5),
    strategy=st.sampled_from(["block", "sheet", "random"]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_no_group_and_no_image_is_in_two_folds(
    sheets: list[str], copies: list[tuple[int, int]], strategy: Strategy, seed: int
) -> None:
    # Enough of both classes for every fold.
    tiles = tiles_of({f"S{n}": letters + "yn" for n, letters in enumerate(sheets)})
    digests = [t.path for t in tiles]
    for one, other in copies:
        digests[one % len(tiles)] = digests[other % len(tiles)]
    folds = split(tiles, digests, strategy, seed)
    seen = defaultdict(set)
    for tile, digest, fold in zip(tiles, digests, folds, strict=True):
        seen[digest].add(fold)
        if strategy != "random":
            seen[f"group {tile.sheet if strategy == 'sheet' else tile.group}"].add(fold)
    assert {len(found) for found in seen.values()} == {1}
    assert set(folds) == set(FOLDS)


@pytest.mark.parametrize("strategy", ["sheet", "random"])
def test_folds_have_the_target_shares_also_of_each_class_by_sheet(strategy: Strategy) -> None:
    table = pd.DataFrame(MANY).assign(fold=split(MANY, strategy=strategy))
    assert table["fold"].tolist() == split(MANY, strategy=strategy)
    assert table["fold"].tolist() != split(MANY, strategy=strategy, seed=2)
    classes = [tiles for _, tiles in table.groupby("label")] if strategy == "sheet" else []
    for tiles, tolerance in ((table, 0.01), *((tiles, 0.02) for tiles in classes)):
        shares = tiles["fold"].value_counts(normalize=True).to_dict()
        assert shares == pytest.approx({"train": 0.6, "valid": 0.2, "test": 0.2}, abs=tolerance)


def test_groups_with_equal_images_are_merged() -> None:
    tiles = [named(f"A_{block}_{cell}") for block in (1, 2, 3, 4) for cell in (1, 2)]
    profiles = [TileProfile(512, 0.2, dark=False, grey=False)] * len(tiles)
    folds, sides = ["train"] * len(tiles), {tiles[1].path: 640}
    table = folding.tile_table(tiles, profiles, list("abcdeacg"), folds, "names", sides,
                               ["name"] * 8, "match")  # fmt: skip
    assert table["group"].tolist() == ["A_1"] * 2 + ["A_2"] * 2 + ["A_1"] * 2 + ["A_2"] * 2
    assert table["reduced_to"].tolist() == [0, 640] + [0] * 6
    assert set(table["groups_source"]) == {"names"}


def test_large_sheets_do_not_fill_a_fold() -> None:
    """Largest first would leave three sheets in the test fold; an interval needs five."""
    sizes = {f"L{n}": "yn" * 14 for n in range(9)} | {f"S{n}": "yn" * 4 for n in range(11)}
    tiles = tiles_of(sizes)
    for seed in range(5):
        folds = split(tiles, seed=seed)
        for fold, share in zip(FOLDS, (0.6, 0.2, 0.2), strict=True):
            chosen = [t for t, found in zip(tiles, folds, strict=True) if found == fold]
            assert len({t.sheet for t in chosen}) >= 5
            assert len(chosen) / len(tiles) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("sheets", "what"),
    [
        ({"A": "yyy", "B": "yyy", "C": "yyn"}, "has no `no` tile"),
        ({"A": "ynynyn"}, "fold valid has no `no` tile"),
        (dict.fromkeys("ABCDEFGHIJKLMN", "yn"), "fold valid has 3 groups"),
    ],
)
def test_a_fold_without_a_class_or_with_few_groups_is_refused(
    sheets: dict[str, str], what: str
) -> None:
    with pytest.raises(CapetownError) as error:
        split(tiles_of(sheets))
    assert what in error.value.what
    assert "split.valid" in error.value.fix
    assert ("split.strategy" in error.value.fix) == ("groups" in what)


def test_duplicates_name_the_first_tile_and_label_noise() -> None:
    tiles = [Tile(f"{n}.tif", "yes" if n in "ac" else "no", n) for n in "edcba"]
    assert folding.duplicate_table(tiles, ["2", "2", "1", "1", "1"]).to_numpy().tolist() == [
        ["b.tif", "a.tif", True], ["c.tif", "a.tif", True], ["e.tif", "d.tif", False],
    ]  # fmt: skip
    assert folding.duplicate_table(tiles, list("abcde")).empty


def test_the_summary_counts_classes_sheets_and_groups() -> None:
    names = ("A_1_1", "A_1_2", "A_2_1", "odd", "B_1_1")
    tiles = [named(name, "yes" if name in ("A_1_1", "B_1_1") else "no") for name in names]
    folds = ["train", "train", "train", "valid", "test"]
    assert folding.summary(tiles, folds) == {
        "train": {"yes": 1, "no": 2, "sheets": 1, "groups": 2, "largest_group": 2},
        "valid": {"yes": 0, "no": 1, "sheets": 1, "groups": 1, "largest_group": 1},
        "test": {"yes": 1, "no": 0, "sheets": 1, "groups": 1, "largest_group": 1},
    }
    assert folding.summary(by_sheet(tiles), folds)["train"]["groups"] == 1


def test_outlines_touch_also_at_corners_and_across_180_degrees() -> None:
    """Squares at rows and columns of a grid, of which two lie on both sides of 180 degrees."""
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)]) / 1000
    cells = [(0, 0), (0, 1), (1, 2), (3, 0), (0, -1)]
    outlines = [
        Outline((corners + (c / 1000, r / 1000) + 180) % 360 - 180, c / 1000, r / 1000)
        for r, c in [(row, column + 180_000) for row, column in cells]
    ]
    folds = ["train", "train", "test", "train", "valid"]
    assert count_neighbours(folds, outlines) == (3, 2)
    assert count_neighbours([*folds, "test"], [*outlines, None]) is None


# --- the stage --------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The inputs of the stage: params, and twelve sheets of four tiles."""
    for name in ("params.yaml", "groups.csv"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "metrics").mkdir()
    pools = tmp_path / "raw" / "images" / "swimming-pool"
    for label in CLASSES:
        (pools / label).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), dtype=np.uint8)
    for n, pixels in enumerate(noise):
        name = f"S{n // 4:02}_{n % 4}_1.tif"
        Image.fromarray(pixels).save(pools / ("yes" if n % 4 < 2 else "no") / name)
    (tmp_path / "raw" / "images" / "inventory.csv").write_text(
        "key,sha256,tile_side,kept_sha256\nsr.csv.gz,a,,a\n"
        "images/swimming-pool/yes/S00_0_1.tif,a,640,b\n"
        "images/swimming-pool/yes/S00_1_1.tif,a,640,a\n"
    )
    return tmp_path


def run_stage(workspace: Path, code: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "stages.split"], cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert (workspace / "splits").exists() == (code == 0)
    return done.stderr


def test_the_stage_lists_rejected_duplicate_and_corrected_tiles(workspace: Path) -> None:
    pools = workspace / "raw" / "images" / "swimming-pool"
    (pools / "yes" / "S99_1_1.tif").write_bytes(b"")
    (pools / "yes" / "old").mkdir()
    (pools / "yes" / "old" / "S98_1_1.tif").touch()
    (pools / "no" / "T01_1_1.TIF").write_bytes((pools / "no" / "S00_2_1.tif").read_bytes())
    (pools / "no" / "=odd.tif").write_bytes((pools / "yes" / "S00_0_1.tif").read_bytes())
    corrected = "images/swimming-pool/yes/S01_0_1.tif"
    (workspace / "corrections.csv").write_text(f"path,label\n{corrected},no\n")
    said = run_stage(workspace, 0)
    rejected = pd.read_csv(workspace / "splits" / "rejected.csv").set_index("path")["reason"]
    assert rejected["images/swimming-pool/yes/S99_1_1.tif"].startswith("empty")
    assert rejected["images/swimming-pool/yes/old/S98_1_1.tif"].startswith("empty")
    assert len(pd.read_csv(workspace / "splits" / "duplicates.csv")) == 2
    tiles = pd.read_csv(workspace / "splits" / "tiles.csv", index_col="path")
    assert tiles.loc[corrected, "label"] == "no"
    odd = tiles.loc["images/swimming-pool/no/=odd.tif"]
    assert odd["sheet"] == "'=odd", "a formula, as a spreadsheet sees it"
    reduced = tiles["reduced_to"]
    assert reduced[reduced > 0].to_dict() == {"images/swimming-pool/yes/S00_0_1.tif": 640}
    for group, copy in (("S00_2", "T01_1"), ("S00_0", "images/swimming-pool/no/=odd.tif")):
        assert tiles[tiles["group"].isin([group, copy])]["fold"].nunique() == 1
    metrics = json.loads((workspace / "metrics" / "split.json").read_text())
    numbers = {"tiles": 50, "rejected": 2, "duplicates": 2, "label_noise": 1, "corrected": 1}
    assert {key: metrics[key] for key in numbers} == numbers
    for fact in ("label noise: images/swimming-pool/yes/S00_0_1.tif", "(target: 60.0%)",
                 "1 of 50 tiles lack a name like", "such as images/swimming-pool/no/=odd.tif",
                 "the split is random", "pairs of tiles that touch: unknown"):  # fmt: skip
        assert fact in said


def test_unusable_inputs_are_one_line_and_change_no_out(workspace: Path) -> None:
    pools = workspace / "raw" / "images" / "swimming-pool"
    for missing in ("images/inventory.csv", "images/swimming-pool/no"):
        path = workspace / "raw" / missing
        path.rename(workspace / "hidden")
        said = run_stage(workspace, 1)
        (workspace / "hidden").rename(path)
        assert f"error: raw/{missing}: no such f" in said.splitlines()[-1]
    for tile in (pools / "yes").iterdir():
        tile.write_bytes(b"")
    (pools / "no" / "S99_1_1.tif").symlink_to("nowhere")
    assert run_stage(workspace, 1).endswith(
        "error: no `yes` tile can be read (25 files left out); "
        "see logs/split-rejected.csv for the reasons\n"
    )
    reasons = pd.read_csv(workspace / "logs" / "split-rejected.csv")["reason"]
    assert reasons.str.startswith("empty").sum() == 24
    assert reasons.str.contains("No such file").sum() == 1


def located(pools: Path, blocks: int) -> None:
    """Replace all tiles by four in each of some blocks of a kilometre, under ordinary names."""
    for tile in pools.rglob("*.tif"):
        tile.unlink()
    noise = np.random.default_rng(1).integers(0, 256, (4 * blocks, 10, 10, 3), dtype=np.uint8)
    for n, pixels in enumerate(noise):
        block, corner = divmod(n, 4)
        # Two by two tiles of 100 m around the middle of a block; blocks are neighbours.
        left = WEST + 1000 * (block % 5) + 400 + 100 * (corner % 2)
        top = NORTH + 1000 * (block // 5) + 600 - 100 * (corner // 2)
        where = Affine(10, 0, left, 0, -10, top)
        geotiff(pools / ("yes" if n % 3 else "no") / f"nice_{n:04}.tif", pixels, transform=where)


def test_no_two_tiles_of_one_block_are_in_different_folds(workspace: Path) -> None:
    pools = workspace / "raw" / "images" / "swimming-pool"
    located(pools, 30)
    assert "groups of tiles come from: georeference" in run_stage(workspace, 0)
    tiles = pd.read_csv(workspace / "splits" / "tiles.csv")
    block = tiles["path"].str.extract(r"_(\d+)\.tif")[0].astype(int) // 4
    assert (tiles.groupby(block)["fold"].nunique() == 1).all()
    assert tiles["group"].nunique() == 30
    assert set(tiles["groups_source"]) == {"georeference"}
    metrics = json.loads((workspace / "metrics" / "split.json").read_text())
    found = metrics["groups_source"], metrics["touching"], metrics["touching_in_two_folds"]
    assert found == ("georeference", 30 * 6, 0)
    # One without a georeference: the split is random for all that anyone can tell.
    Image.new("RGB", (8, 8), "red").save(pools / "yes" / "nice_0001.tif")
    said = run_stage(workspace, 0)
    assert "1 of 120 tiles lack a georeference" in said
    assert "the split is random" in said
    assert "pairs of tiles that touch: unknown" in said
    metrics = json.loads((workspace / "metrics" / "split.json").read_text())
    assert (metrics["groups_source"], metrics["touching"]) == ("none", None)


def test_tiles_with_names_are_mapped_and_a_gap_keeps_folds_apart(workspace: Path) -> None:
    """Fourteen by fourteen neighbours, in groups of two by two."""
    pools = workspace / "raw" / "images" / "swimming-pool"
    for tile in pools.rglob("*.tif"):
        tile.unlink()
    tiles = cut(picture())
    rows = [f"{name_at(*at)}.tif,{at[0] // 2}_{at[1] // 2}" for at in tiles]
    (workspace / "groups.csv").write_text("\n".join(["path,group", *rows]) + "\n")
    for n, (at, pixels) in enumerate(tiles.items()):
        Image.fromarray(pixels).save(pools / ("yes" if n % 3 else "no") / f"{name_at(*at)}.tif")
    hexagons = {"type": "FeatureCollection", "features": [
        {"type": "Feature", "properties": {"index": cell}} for cell in ["88ad361a9bfffff"]
    ]}  # fmt: skip
    (workspace / "raw" / "requests").mkdir()
    (workspace / "raw" / "requests" / HEXAGONS_FILE).write_text(json.dumps(hexagons))

    def split_with(gap: int, code: int = 0) -> tuple[str, dict[str, Any]]:
        text = (workspace / "params.yaml").read_text()
        (workspace / "params.yaml").write_text(re.sub(r"  gap: \d+", f"  gap: {gap}", text))
        shutil.rmtree(workspace / "splits", ignore_errors=True)
        said = run_stage(workspace, code)
        return said, json.loads((workspace / "metrics" / "split.json").read_text())

    said, metrics = split_with(0)
    assert f"names of tiles: {metrics['names']}" in said
    assert re.fullmatch(r"250 of 250 neighbours match; \d+ of 250 random pairs", metrics["names"])
    assert metrics["located"] == {"georeference": 0, "name": 196}
    # Along rows and columns, and across corners.
    assert (metrics["touching"], metrics["near_test"]) == (2 * 14 * 13 + 2 * 13 * 13, 0)
    assert "tiles lie outside all hexagons of Cape Town, such as" in said
    located = geopandas.read_parquet(workspace / "splits" / "tiles.parquet")
    listed = pd.read_csv(workspace / "splits" / "tiles.csv")
    assert set(listed["names"]) == {"match"}
    shared = ["path", "label", "fold", "group", "location_source"]
    assert located[shared].equals(listed[shared])
    west, south, east, north = located.total_bounds
    assert (west, east) == pytest.approx((18.5676, 18.5828), abs=1e-4)
    assert located["longitude"].between(west, east).all()
    assert located["latitude"].between(south, north).all()
    first = located.iloc[0]
    assert first["hexagon"] == h3.latlng_to_cell(first["latitude"], first["longitude"], 8)

    said, metrics = split_with(150)
    left = geopandas.read_parquet(workspace / "splits" / "tiles.parquet").to_crs(32734)
    train, test = (left[left["fold"] == fold].union_all() for fold in ("train", "test"))
    assert train.distance(test) > 150
    near = pd.read_csv(workspace / "splits" / "near_test.csv")
    assert len(near) == metrics["near_test"] == 196 - len(left) > 0
    assert f"{len(near)} training tiles nearer than 150 m to the test fold" in said
    kept = listed[(listed["fold"] != "train") | ~listed["path"].isin(near["path"])]
    assert kept["path"].tolist() == left["path"].tolist()

    assert "error: split.gap: fold train has no" in split_with(2000, 1)[0]
    Image.fromarray(picture()[:80, :80]).save(pools / "no" / "nice.tif")
    with (workspace / "groups.csv").open("a") as file:
        file.write("nice.tif,odd\n")
    said, _ = split_with(100, 1)
    assert "error: split.gap: 1 of 197 tiles have no location, such as images/" in said


def test_one_group_with_most_tiles_is_named(workspace: Path) -> None:
    paths = sorted(p.name for p in (workspace / "raw").rglob("*.tif"))
    rows = [f"{path},{'all' if n < 40 else n}" for n, path in enumerate(paths)]
    (workspace / "groups.csv").write_text("\n".join(["path,group", *rows]) + "\n")
    said = run_stage(workspace, 1).splitlines()[-1]
    assert "error: fold" in said
    assert "group all has 40 of 48 tiles; divide that group" in said


@pytest.mark.parametrize(
    ("source", "groups", "sheets", "expected"),
    [
        ("none", "abc", "xyz", "tiles next to those it was trained on"),
        ("names", "aab", "xxx", "tiles next to those it was trained on"),
        ("names", "abc", "xxz", "tiles between those it was trained on"),
        ("names", "abc", "xyz", "new map sheets"),
        ("georeference", "abc", "abc", "tiles between those it was trained on"),
        ("folders", "abc", "abc", "new groups of tiles"),
    ],
)
def test_the_table_says_what_the_test_stands_for(
    source: str, groups: str, sheets: str, expected: str, tmp_path: Path
) -> None:
    """The folds are train, test and valid."""
    table = pd.DataFrame({"group": list(groups), "sheet": list(sheets), "groups_source": source})
    table.assign(fold=["train", "test", "valid"]).to_csv(tmp_path / "tiles.csv", index=False)
    assert validity(tmp_path / "tiles.csv") == expected
