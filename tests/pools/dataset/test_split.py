"""Folds never share a sheet or an image, and keep the shares of tiles and classes."""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from capetown.errors import CapetownError
from capetown.pools.dataset.drift import TileProfile
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.neighbours import parted_neighbours
from capetown.pools.dataset.split import (
    FOLDS,
    Strategy,
    duplicates,
    group_of,
    remarks,
    split_tiles,
    summary,
    tile_table,
)
from tests import ROOT


def tiles_of(sheets: dict[str, str]) -> list[Tile]:
    """A tile a letter: ``{"A": "yyn"}`` is a sheet of two with a pool and one without."""
    return [
        Tile(f"{sheet}_{row}.tif", "yes" if letter == "y" else "no", sheet)
        for sheet, letters in sheets.items()
        for row, letter in enumerate(letters)
    ]


def split(
    tiles: list[Tile], digests: list[str] | None = None, strategy: Strategy = "sheet", seed: int = 1
) -> list[str]:
    return split_tiles(
        tiles,
        digests or [t.path for t in tiles],
        strategy=strategy,
        valid=0.2,
        test=0.2,
        seed=seed,
    )


def named(name: str, label: str = "no") -> Tile:
    return Tile(f"images/{name}.tif", label, name.split("_")[0])


MANY = tiles_of({f"S{n:03}": "yyn" if n % 3 else "ynnnyy" for n in range(60)})


@given(
    sheets=st.lists(st.text("yn", min_size=1, max_size=12), min_size=30, max_size=60),
    copies=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=5),
    strategy=st.sampled_from(["block", "sheet", "random"]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_no_sheet_and_no_image_is_in_two_folds(
    sheets: list[str], copies: list[tuple[int, int]], strategy: Strategy, seed: int
) -> None:
    # Enough of both classes for every fold; blocks of three tiles.
    tiles = [
        replace(tile, path=f"{tile.sheet}_{row // 3}_{row % 3}.tif")
        for row, tile in enumerate(
            tiles_of({f"S{n}": letters + "yn" for n, letters in enumerate(sheets)})
        )
    ]
    digests = [t.path for t in tiles]
    for one, other in copies:
        digests[one % len(tiles)] = digests[other % len(tiles)]
    folds = split(tiles, digests, strategy, seed)
    seen = defaultdict(set)
    for tile, digest, fold in zip(tiles, digests, folds, strict=True):
        seen[digest].add(fold)
        if strategy != "random":
            seen[f"group {group_of(tile, strategy)}"].add(fold)
    assert {len(found) for found in seen.values()} == {1}
    assert set(folds) == set(FOLDS)


@pytest.mark.parametrize("strategy", ["sheet", "random"])
def test_folds_have_the_shares_asked_for(strategy: Strategy) -> None:
    folds = split(MANY, strategy=strategy)
    shares = {fold: folds.count(fold) / len(folds) for fold in FOLDS}
    assert shares == pytest.approx({"train": 0.6, "valid": 0.2, "test": 0.2}, abs=0.01)


def test_by_sheet_each_fold_has_its_share_of_each_class() -> None:
    table = pd.DataFrame(MANY).assign(fold=split(MANY))
    for _, tiles in table.groupby("label"):
        shares = tiles["fold"].value_counts(normalize=True).to_dict()
        assert shares == pytest.approx({"train": 0.6, "valid": 0.2, "test": 0.2}, abs=0.02)


@pytest.mark.parametrize("strategy", ["sheet", "random"])
def test_the_seed_decides_and_nothing_else(strategy: Strategy) -> None:
    assert split(MANY, strategy=strategy) == split(MANY, strategy=strategy)
    assert split(MANY, strategy=strategy) != split(MANY, strategy=strategy, seed=2)


def test_equal_images_join_their_sheets() -> None:
    tiles = tiles_of(dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "yn"))
    digests = [t.path for t in tiles]
    digests[tiles.index(Tile("B_0.tif", "yes", "B"))] = "A_0.tif"
    digests[tiles.index(Tile("C_1.tif", "no", "C"))] = "B_1.tif"
    for seed in range(10):
        folds = dict(zip([t.path for t in tiles], split(tiles, digests, seed=seed), strict=True))
        assert folds["A_0.tif"] == folds["B_0.tif"] == folds["C_1.tif"] == folds["C_0.tif"]


def test_groups_with_equal_images_are_one() -> None:
    tiles = [named(f"A_{block}_{cell}") for block in (1, 2, 3, 4) for cell in (1, 2)]
    digests = list("abcdeacg")
    looks = [TileProfile(512, 0.2, dark=False, grey=False)] * len(tiles)
    table = tile_table(tiles, looks, digests, ["train"] * len(tiles), "block")
    assert table["group"].tolist() == ["A_1"] * 2 + ["A_2"] * 2 + ["A_1"] * 2 + ["A_2"] * 2


def test_large_sheets_do_not_fill_a_fold_alone() -> None:
    """The largest ones first would leave three in the test fold; an interval needs five."""
    sizes = {f"L{n}": "yn" * 14 for n in range(9)} | {f"S{n}": "yn" * 4 for n in range(11)}
    tiles = tiles_of(sizes)
    for seed in range(5):
        folds = split(tiles, seed=seed)
        for fold, share in zip(FOLDS, (0.6, 0.2, 0.2), strict=True):
            chosen = [t for t, found in zip(tiles, folds, strict=True) if found == fold]
            assert len({t.sheet for t in chosen}) >= 5
            assert len(chosen) / len(tiles) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("sheets", "message"),
    [
        ({"A": "yyy", "B": "yyy", "C": "yyn"}, "has no `no` tile"),
        ({"A": "ynynyn"}, "fold valid has no `no` tile"),
        (
            dict.fromkeys("ABCDEFGHIJKLMN", "yn"),
            "valid has 3 sheets, .* interval needs 5: set",
        ),
    ],
)
def test_a_fold_without_a_class_is_one_line(sheets: dict[str, str], message: str) -> None:
    with pytest.raises(CapetownError, match=message) as caught:
        split(tiles_of(sheets))
    assert "split.valid" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_duplicates_name_the_first_and_tell_label_noise() -> None:
    a, b, c = Tile("a.tif", "yes", "A"), Tile("b.tif", "no", "B"), Tile("c.tif", "yes", "C")
    d, e = Tile("d.tif", "no", "D"), Tile("e.tif", "no", "E")
    found = duplicates([e, d, c, b, a], ["2", "2", "1", "1", "1"])
    assert found == [(b, a, True), (c, a, True), (e, d, False)]
    assert duplicates([a, b], ["1", "2"]) == []


def test_the_summary_counts_classes_sheets_and_groups() -> None:
    tiles = [named("A_1_1", "yes"), named("A_1_2"), named("A_2_1"), named("B_1_1", "yes")]
    folds = ["train", "train", "train", "test"]
    assert summary(tiles, folds, "block") == {
        "train": {"yes": 1, "no": 2, "sheets": 1, "groups": 2, "largest_group": 2},
        "valid": {"yes": 0, "no": 0, "sheets": 0, "groups": 0, "largest_group": 0},
        "test": {"yes": 1, "no": 0, "sheets": 1, "groups": 1, "largest_group": 1},
    }
    assert summary(tiles, folds, "sheet")["train"]["groups"] == 1


@pytest.mark.parametrize(
    ("name", "block", "sheet"),
    [("W35A_7_58", "W35A_7", "W35A"), ("a_b_1_2", "a_b_1", "a_b"), ("odd", "odd", "odd")],
)
def test_a_group_is_a_block_or_a_sheet(name: str, block: str, sheet: str) -> None:
    tile = Tile(f"images/{name}.tif", "no", sheet)
    assert (group_of(tile, "block"), group_of(tile, "random")) == (block, block)
    assert group_of(tile, "sheet") == sheet


def test_neighbours_touch_also_across_blocks() -> None:
    """Cell 10 of block 1 and cell 1 of block 2 touch, cell 91 of block 1 and cell 1 of block 6."""
    tiles = [named(n) for n in ("A_1_10", "A_2_1", "A_2_12", "A_1_91", "A_6_1", "B_1_10", "odd")]
    folds = ["train", "test", "test", "train", "train", "valid", "test"]
    assert parted_neighbours(tiles, folds) == (3, 1)


def test_remarks_tell_how_even_the_folds_are() -> None:
    tiles = [named(f"A_{n}_1", "yes" if n % 2 else "no") for n in range(1, 21)] + [named("odd")]
    folds = ["train"] * 10 + ["valid"] * 5 + ["test"] * 6
    assert remarks(tiles, folds, strategy="block", valid=0.2, test=0.2) == [
        "train: 10 tiles, 47.6% (wanted: 60.0%), 50.0% with a pool; 10 blocks of 1 sheets, "
        "at most 1 tiles a block",
        "valid: 5 tiles, 23.8% (wanted: 20.0%), 60.0% with a pool; 5 blocks of 1 sheets, "
        "at most 1 tiles a block",
        "test: 6 tiles, 28.6% (wanted: 20.0%), 33.3% with a pool; 6 blocks of 2 sheets, "
        "at most 1 tiles a block",
        "0 pairs of tiles touch; 0 of them are in two folds",
        "1 tiles, such as images/odd.tif, are not named SHEET_BLOCK_CELL: each counts as a group "
        "of its own, though it may be another's neighbour",
    ]


# --- the stage --------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What the stage reads: params, and twelve sheets of four tiles."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "metrics").mkdir()
    rng = np.random.default_rng(0)
    for n in range(48):
        label = "yes" if n % 4 < 2 else "no"
        folder = tmp_path / "raw" / "images" / "swimming-pool" / label
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"S{n // 4:02}_{n % 4}_1.tif")
    return tmp_path


def run_stage(workspace: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(workspace / "c")}
    return subprocess.run(
        [sys.executable, "-m", "stages.split"],
        cwd=workspace, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip


def test_the_stage_lists_what_it_leaves_out_and_what_is_twice(workspace: Path) -> None:
    pools = workspace / "raw" / "images" / "swimming-pool"
    (pools / "yes" / "S99_1_1.tif").write_bytes(b"")
    (pools / "yes" / "old").mkdir()
    (pools / "yes" / "old" / "S98_1_1.tif").touch()
    (pools / "no" / "T01_1_1.TIF").write_bytes((pools / "no" / "S00_2_1.tif").read_bytes())
    (pools / "no" / "T02_1_1.tif").write_bytes((pools / "yes" / "S00_0_1.tif").read_bytes())
    done = run_stage(workspace)
    assert done.returncode == 0, done.stderr
    rejected = pd.read_csv(workspace / "splits" / "rejected.csv")
    assert rejected.to_numpy().tolist() == [
        ["images/swimming-pool/yes/S99_1_1.tif", "empty: 0 bytes"],
        ["images/swimming-pool/yes/old/S98_1_1.tif",
         "not directly in swimming-pool/yes or swimming-pool/no."],
    ]  # fmt: skip
    twice = pd.read_csv(workspace / "splits" / "duplicates.csv")
    assert twice.to_numpy().tolist() == [
        ["images/swimming-pool/no/T01_1_1.TIF", "images/swimming-pool/no/S00_2_1.tif", False],
        ["images/swimming-pool/yes/S00_0_1.tif", "images/swimming-pool/no/T02_1_1.tif", True],
    ]
    tiles = pd.read_csv(workspace / "splits" / "tiles.csv")
    assert list(tiles.columns) == [
        "path", "label", "sheet", "group", "fold", "digest", "side", "resolution", "dark", "grey",
        "reduced",
    ]  # fmt: skip
    assert len(tiles) == 50
    for group, copy in (("S00_2", "T01_1"), ("S00_0", "T02_1")):
        assert tiles[tiles["group"].isin([group, copy])]["fold"].nunique() == 1
    metrics = json.loads((workspace / "metrics" / "split.json").read_text())
    assert [metrics[k] for k in ("tiles", "rejected", "duplicates", "label_noise")] == [50, 2, 2, 1]
    assert sum(fold["yes"] + fold["no"] for fold in metrics["folds"].values()) == 50
    assert "label noise: images/swimming-pool/yes/S00_0_1.tif" in done.stderr


def test_the_stage_honours_corrections(workspace: Path) -> None:
    path = "images/swimming-pool/yes/S00_0_1.tif"
    (workspace / "corrections.csv").write_text(f"path,label\n{path},no\n")
    done = run_stage(workspace)
    assert done.returncode == 0, done.stderr
    assert "corrections.csv changes the labels of 1 tiles" in done.stderr
    tiles = pd.read_csv(workspace / "splits" / "tiles.csv").set_index("path")
    assert tiles["label"].value_counts().to_dict() == {"no": 25, "yes": 23}
    assert tiles.loc[path, "label"] == "no"
    assert json.loads((workspace / "metrics" / "split.json").read_text())["corrected"] == 1


def test_without_tiles_the_stage_says_so_in_one_line(workspace: Path) -> None:
    shutil.rmtree(workspace / "raw" / "images" / "swimming-pool" / "no")
    done = run_stage(workspace)
    assert done.returncode == 1
    assert "error: raw/images/swimming-pool/no: no such folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workspace / "splits").exists()


def test_without_a_readable_tile_the_stage_says_so_and_lists_why(workspace: Path) -> None:
    pools = workspace / "raw" / "images" / "swimming-pool"
    for tile in (pools / "yes").iterdir():
        tile.write_bytes(b"")
    (pools / "no" / "S99_1_1.tif").symlink_to("nowhere")
    done = run_stage(workspace)
    assert done.returncode == 1
    assert (
        "error: no `yes` tile can be read. 25 tiles are left out: logs/split-rejected.csv says why."
        in done.stderr.splitlines()
    )
    assert "Traceback" not in done.stderr
    assert not (workspace / "splits").exists()
    rejected = pd.read_csv(workspace / "logs" / "split-rejected.csv")
    assert rejected["reason"].value_counts().to_dict() == {
        "empty: 0 bytes": 24,
        "cannot be read (No such file or directory)": 1,
    }
