"""Folds never share a group or an image, and have the target shares of tiles and classes."""

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
from capetown.pools.dataset.neighbours import count_neighbours
from capetown.pools.dataset.split import (
    FOLDS,
    Strategy,
    duplicate_table,
    group_of,
    log_lines,
    split_tiles,
    summary,
    tile_table,
)
from tests import ROOT


def tiles_of(sheets: dict[str, str]) -> list[Tile]:
    """One tile per letter: ``{"A": "yyn"}`` is a sheet of two with a pool and one without."""
    return [
        Tile(f"{sheet}_{row}.tif", "yes" if letter == "y" else "no", sheet)
        for sheet, letters in sheets.items()
        for row, letter in enumerate(letters)
    ]


def split(
    tiles: list[Tile], digests: list[str] | None = None, strategy: Strategy = "sheet", seed: int = 1
) -> list[str]:
    digests = digests or [t.path for t in tiles]
    return split_tiles(tiles, digests, strategy=strategy, valid=0.2, test=0.2, seed=seed)


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
def test_no_group_and_no_image_is_in_two_folds(
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
def test_folds_have_the_target_shares_also_of_each_class_by_sheet(strategy: Strategy) -> None:
    table = pd.DataFrame(MANY).assign(fold=split(MANY, strategy=strategy))
    target = {"train": 0.6, "valid": 0.2, "test": 0.2}
    shares = table["fold"].value_counts(normalize=True).to_dict()
    assert shares == pytest.approx(target, abs=0.01)
    for _, tiles in table.groupby("label") if strategy == "sheet" else ():
        shares = tiles["fold"].value_counts(normalize=True).to_dict()
        assert shares == pytest.approx(target, abs=0.02)


@pytest.mark.parametrize("strategy", ["sheet", "random"])
def test_only_the_seed_changes_the_folds(strategy: Strategy) -> None:
    assert split(MANY, strategy=strategy) == split(MANY, strategy=strategy)
    assert split(MANY, strategy=strategy) != split(MANY, strategy=strategy, seed=2)


def test_groups_with_equal_images_are_merged() -> None:
    tiles = [named(f"A_{block}_{cell}") for block in (1, 2, 3, 4) for cell in (1, 2)]
    profiles = [TileProfile(512, 0.2, dark=False, grey=False)] * len(tiles)
    folds = ["train"] * len(tiles)
    sides = {tiles[1].path: 640}
    table = tile_table(tiles, profiles, list("abcdeacg"), folds, "block", sides)
    assert table["group"].tolist() == ["A_1"] * 2 + ["A_2"] * 2 + ["A_1"] * 2 + ["A_2"] * 2
    assert table["reduced_to"].tolist() == [0, 640] + [0] * 6


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
        (dict.fromkeys("ABCDEFGHIJKLMN", "yn"), "fold valid has 3 sheets"),
    ],
)
def test_a_fold_without_a_class_or_with_few_groups_is_refused(
    sheets: dict[str, str], what: str
) -> None:
    with pytest.raises(CapetownError) as error:
        split(tiles_of(sheets))
    assert what in error.value.what
    assert "split.valid" in error.value.fix
    assert ("split.strategy" in error.value.fix) == ("sheets" in what)


def test_duplicates_name_the_first_tile_and_label_noise() -> None:
    tiles = [Tile(f"{n}.tif", "yes" if n in "ac" else "no", n) for n in "edcba"]
    assert duplicate_table(tiles, ["2", "2", "1", "1", "1"]).to_numpy().tolist() == [
        ["b.tif", "a.tif", True], ["c.tif", "a.tif", True], ["e.tif", "d.tif", False],
    ]  # fmt: skip
    assert duplicate_table(tiles, list("abcde")).empty


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
    assert count_neighbours(tiles, folds) == (3, 1)


def test_log_lines_have_the_sizes_and_leaks_of_folds() -> None:
    tiles = [named(f"A_{n}_1", "yes" if n % 2 else "no") for n in range(1, 21)] + [named("odd")]
    folds = ["train"] * 10 + ["valid"] * 5 + ["test"] * 6
    lines = log_lines(tiles, folds, strategy="block", valid=0.2, test=0.2)
    assert "train: 10 tiles, 47.6% (target: 60.0%), 50.0% with a pool; blocks: 10" in lines[0]
    assert "such as images/odd.tif" in lines[-1]


# --- the stage --------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The inputs of the stage: params, and twelve sheets of four tiles."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "metrics").mkdir()
    rng = np.random.default_rng(0)
    for n in range(48):
        label = "yes" if n % 4 < 2 else "no"
        folder = tmp_path / "raw" / "images" / "swimming-pool" / label
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"S{n // 4:02}_{n % 4}_1.tif")
    (tmp_path / "raw" / "inventory.csv").write_text(
        "key,sha256,tile_side,kept_sha256\nsr.csv.gz,a,,a\n"
        "images/swimming-pool/yes/S00_0_1.tif,a,640,b\n"
        "images/swimming-pool/yes/S00_1_1.tif,a,640,a\n"
    )
    return tmp_path


def run_stage(workspace: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(workspace / "c")}
    return subprocess.run(
        [sys.executable, "-m", "stages.split"],
        cwd=workspace, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip


def test_the_stage_lists_rejected_duplicate_and_corrected_tiles(workspace: Path) -> None:
    pools = workspace / "raw" / "images" / "swimming-pool"
    (pools / "yes" / "S99_1_1.tif").write_bytes(b"")
    (pools / "yes" / "old").mkdir()
    (pools / "yes" / "old" / "S98_1_1.tif").touch()
    (pools / "no" / "T01_1_1.TIF").write_bytes((pools / "no" / "S00_2_1.tif").read_bytes())
    (pools / "no" / "T02_1_1.tif").write_bytes((pools / "yes" / "S00_0_1.tif").read_bytes())
    corrected = "images/swimming-pool/yes/S01_0_1.tif"
    (workspace / "corrections.csv").write_text(f"path,label\n{corrected},no\n")
    done = run_stage(workspace)
    assert done.returncode == 0, done.stderr
    rejected = pd.read_csv(workspace / "splits" / "rejected.csv").set_index("path")["reason"]
    assert rejected["images/swimming-pool/yes/S99_1_1.tif"].startswith("empty")
    assert rejected["images/swimming-pool/yes/old/S98_1_1.tif"].startswith("not directly in")
    assert len(rejected) == 2
    copies = pd.read_csv(workspace / "splits" / "duplicates.csv")
    assert copies.to_numpy().tolist() == [
        ["images/swimming-pool/no/T01_1_1.TIF", "images/swimming-pool/no/S00_2_1.tif", False],
        ["images/swimming-pool/yes/S00_0_1.tif", "images/swimming-pool/no/T02_1_1.tif", True],
    ]
    tiles = pd.read_csv(workspace / "splits" / "tiles.csv")
    assert list(tiles.columns) == [
        "path", "label", "sheet", "group", "fold", "digest", "side", "resolution", "dark", "grey",
        "reduced_to",
    ]  # fmt: skip
    assert tiles["label"].value_counts().to_dict() == {"no": 27, "yes": 23}
    assert tiles.set_index("path").loc[corrected, "label"] == "no"
    reduced = tiles[tiles["reduced_to"] > 0]
    assert reduced[["path", "reduced_to"]].to_numpy().tolist() == [
        ["images/swimming-pool/yes/S00_0_1.tif", 640]
    ]
    for group, copy in (("S00_2", "T01_1"), ("S00_0", "T02_1")):
        assert tiles[tiles["group"].isin([group, copy])]["fold"].nunique() == 1
    metrics = json.loads((workspace / "metrics" / "split.json").read_text())
    numbers = {"tiles": 50, "rejected": 2, "duplicates": 2, "label_noise": 1, "corrected": 1}
    assert {key: metrics[key] for key in numbers} == numbers
    assert sum(fold["yes"] + fold["no"] for fold in metrics["folds"].values()) == 50
    assert "label noise: images/swimming-pool/yes/S00_0_1.tif" in done.stderr


def test_without_a_class_folder_or_inventory_the_stage_is_one_line(workspace: Path) -> None:
    for missing in ("inventory.csv", "images/swimming-pool/no"):
        path = workspace / "raw" / missing
        path.rename(workspace / "hidden")
        done = run_stage(workspace)
        (workspace / "hidden").rename(path)
        assert done.returncode == 1
        assert f"error: raw/{missing}: no such f" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (workspace / "splits").exists()


def test_without_a_readable_tile_the_stage_lists_the_reasons(workspace: Path) -> None:
    pools = workspace / "raw" / "images" / "swimming-pool"
    for tile in (pools / "yes").iterdir():
        tile.write_bytes(b"")
    (pools / "no" / "S99_1_1.tif").symlink_to("nowhere")
    done = run_stage(workspace)
    assert done.returncode == 1
    assert (
        "error: no `yes` tile can be read (25 files are left out); see logs/split-rejected.csv for "
        "the reasons"
    ) in done.stderr.splitlines()
    assert not (workspace / "splits").exists()
    reasons = pd.read_csv(workspace / "logs" / "split-rejected.csv")["reason"]
    assert reasons.str.startswith("empty").sum() == 24
    assert reasons.str.contains("No such file").sum() == 1
