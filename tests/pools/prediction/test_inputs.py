"""Tiles are found by file, folder, glob, prefix and list, in the given order."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import Grid, Tiling
from capetown.pools.prediction.inference_worker import _in_order
from capetown.pools.prediction.inputs import Tiles, find_files, find_tiles, inputs_digest
from tests.pools.prediction import Predict, refused

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of three formats, one of another, and a file that is not an image."""
    made = tmp_path / "mixed"
    (made / "deep").mkdir(parents=True)
    for name in ("c.tif", "b.PNG", "a.jpeg", "deep/d.jpg", "other.bmp"):
        Image.fromarray(PIXELS).save(made / name)
    (made / "notes.txt").write_text("none")
    return made


def found(*paths: str) -> list[TileRef]:
    return list(find_files(paths))


def names(*paths: str) -> list[str]:
    return [Path(tile.path).name for tile in found(*paths)]


def test_a_folder_selects_its_tiffs_pngs_and_jpegs(
    folder: Path, predict: Predict, caplog: pytest.LogCaptureFixture
) -> None:
    """Images of other formats are left out and counted."""
    rows = predict("out.csv", folder)
    assert [Path(path).name for path in rows["path"]] == ["a.jpeg", "b.PNG", "c.tif", "d.jpg"]
    assert (rows["error"] == "").all()
    assert rows["probability"][1] == rows["probability"][2]
    left_out = "1 images of other formats are left out"
    assert f"{folder}: {left_out}" in caplog.text
    assert left_out in refused("predict", f"{folder}/o*", "--out", "o.csv").what


def test_a_glob_selects_what_matches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(f"{folder}/*.tif", f"{folder}/**/*.j*") == ["c.tif", "a.jpeg", "d.jpg"]
    assert names(f"{folder}/[bc].*") == ["b.PNG", "c.tif"]
    monkeypatch.chdir(folder)
    assert [tile.path for tile in found("*/*.jpg")] == ["deep/d.jpg"]
    shutil.copy("c.tif", "[c].tif")
    assert [tile.path for tile in found("[c].tif")] == ["[c].tif"]


def test_changed_sidecars_change_the_digest(folder: Path) -> None:
    def digest() -> str:
        return inputs_digest(find_tiles([str(folder)], Tiling()), "")

    digests = [digest()]
    for name, text in (("c.tfw", "1\n0\n0\n-1\n0\n0\n"), ("c.tfw", "1\n0\n0\n-1\n9\n0\n"),
                       ("c.prj", "here"), ("c.prj", "elsewhere"),
                       ("c.tif.aux.xml", "<a/>")):  # fmt: skip
        (folder / name).write_text(text)
        digests.append(digest())
    # Another tile of equal size and date.
    status = (folder / "c.tif").stat()
    Image.fromarray(PIXELS[::-1]).save(folder / "c.tif")
    assert (folder / "c.tif").stat().st_size == status.st_size
    os.utime(folder / "c.tif", ns=(status.st_atime_ns, status.st_mtime_ns))
    digests.append(digest())
    assert len(set(digests)) == len(digests)


def test_unusable_names_folders_and_lists_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name or a list that is not UTF-8, an empty or missing list, an unreadable folder."""
    scandir = os.scandir

    def denied(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def where(path: str) -> str:
        return str(refused("predict", path, "--out", "out.csv")).partition(": ")[0]

    monkeypatch.chdir(folder)
    assert where("@list.txt") == "@list.txt"
    for content in (b"\n \n", b"\xff\xfe\0"):
        Path("list.txt").write_bytes(content)
        assert where("@list.txt").endswith("list.txt")
    shutil.copy("c.tif", os.fsdecode(b"\xff.tif"))
    assert "\\udcff.tif" in where(str(folder))
    monkeypatch.setattr(os, "scandir", denied)
    assert where(str(folder)).endswith("deep")


def test_urls_are_listed_and_read(folder: Path, predict: Predict) -> None:
    fsspec.filesystem("memory").put(str(folder), "/globbed", recursive=True)
    url = f"file://{folder}/a.jpeg"  # fsspec needs the path unquoted
    rows = predict("out.csv", "memory://globbed/**/*.j*", url)
    paths = ["memory:///globbed/a.jpeg", "memory:///globbed/deep/d.jpg", url]
    assert rows["path"].tolist() == paths
    assert (rows["error"] == "").all()


def test_a_list_keeps_its_order_and_missing_files_of_any_name(
    folder: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    shutil.copy("c.tif", "photo.dat")
    shutil.copy("c.tif", "a::b.png")
    shutil.copy("c.tif", "a\u2028b.png")
    paths = ["c.tif", "gone.tif", f"file://{folder}/a.jpeg", "memory://gone.tif", "c.tif",
             "a::b.png", "a\u2028b.png", "nowhere://x.tif"]  # fmt: skip
    text = "\n\n  ".join(paths)
    (folder / "list.txt").write_text(f"{text}\n", encoding="utf-8-sig")
    rows = predict("out.csv", "photo.dat", f"@{folder / 'list.txt'}", "notes.txt")
    assert rows["path"].tolist() == ["photo.dat", *paths, "notes.txt"]
    errors = rows["error"].tolist()
    assert [errors[n] for n in (0, 1, 2, 3, 5)] == ["", "", "no such file", "", ""]
    assert errors[4].startswith("cannot be fetched (")
    assert errors[6:8] == ["", ""]
    assert "line 15 of" in errors[8]
    assert errors[9] == "not an image, or damaged"


def test_links_are_followed_once_and_pipes_are_not_read(
    folder: Path, predict: Predict, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "one.tif").symlink_to(folder / "c.tif")
    (linked / "folder").symlink_to(folder / "deep")
    (linked / "folder" / "again").symlink_to(linked)
    os.mkfifo(linked / "pipe.tif")
    rows = predict("out.csv", linked)
    assert rows["path"].tolist() == [
        str(linked / name) for name in ("folder/d.jpg", "one.tif", "pipe.tif")
    ]
    assert rows["error"].tolist() == ["", "", "not a regular file"]


def test_tiles_are_not_read_far_ahead_of_the_model() -> None:
    """So memory does not grow with the number of tiles."""
    read: list[int] = []

    def note(number: int) -> int:
        read.append(number)
        return number

    with ThreadPoolExecutor(4) as pool:
        results = _in_order(pool, note, iter(range(200)), 10)
        ahead = [len(read) - done for done, _ in enumerate(results)]
    assert sorted(read) == list(range(200))
    assert max(ahead) <= 10


def test_millions_of_windows_are_made_when_they_are_used() -> None:
    sides = tuple(range(0, 20_000, 3))
    files = [TileRef(f"{name}.tif", name) for name in "abc"]
    tiles = Tiles([Grid(files[0]), Grid(files[1], sides, sides, 32, 32), Grid(files[2])])
    assert len(tiles) == len(sides) ** 2 + 2
    assert [tile.path for tile in tiles.part(0, 3)] == [
        "a.tif", "b.tif#xywh=0,0,32,32", "b.tif#xywh=3,0,32,32"
    ]  # fmt: skip
    last = tiles.part(len(tiles) - 2, len(tiles) + 9)
    assert [tile.path for tile in last] == ["b.tif#xywh=19998,19998,32,32", "c.tif"]
