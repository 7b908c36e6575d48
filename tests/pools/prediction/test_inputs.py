"""Tiles are found by file, folder, glob, prefix and list, in the order that is asked for."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image
from torch import nn

from capetown.errors import CapetownError
from capetown.imagery.tile_ref import TileRef
from capetown.pools.prediction.inputs import find_inputs, inputs_digest
from capetown.pools.prediction.worker import _in_order
from tests.pools.prediction import predict

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of three kinds, one of another and what is none."""
    made = tmp_path / "mixed"
    (made / "deep").mkdir(parents=True)
    for name in ("c.tif", "b.PNG", "a.jpeg", "deep/d.jpg", "other.bmp"):
        Image.fromarray(PIXELS).save(made / name)
    (made / "notes.txt").write_text("none")
    return made


def found(*paths: str) -> list[TileRef]:
    return [source for _, at in find_inputs(paths) for source in at.sources]


def names(*paths: str) -> list[str]:
    return [Path(source.path).name for source in found(*paths)]


def test_a_folder_stands_for_its_tiffs_pngs_and_jpegs(
    folder: Path, model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    rows = predict(model[1], tmp_path / "out.csv", str(folder))
    assert [Path(path).name for path in rows["path"]] == ["a.jpeg", "b.PNG", "c.tif", "d.jpg"]
    assert (rows["error"] == "").all()
    assert rows["probability"][1] == rows["probability"][2]


def test_a_glob_stands_for_what_matches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(f"{folder}/*.tif", f"{folder}/**/*.j*") == ["c.tif", "a.jpeg", "d.jpg"]
    assert names(f"{folder}/[bc].*") == ["b.PNG", "c.tif"]
    monkeypatch.chdir(folder)
    assert [source.path for source in found("*/*.jpg")] == ["deep/d.jpg"]
    shutil.copy("c.tif", "[c].tif")
    assert [source.path for source in found("[c].tif")] == ["[c].tif"]


def test_what_changes_beside_a_tile_changes_the_inputs(folder: Path) -> None:
    digests = [inputs_digest(found(str(folder)), "")]
    for name, text in (("c.tfw", "1\n0\n0\n-1\n0\n0\n"), ("c.tfw", "1\n0\n0\n-1\n9\n0\n"),
                       ("c.prj", "here"), ("c.prj", "elsewhere")):  # fmt: skip
        (folder / name).write_text(text)
        digests.append(inputs_digest(found(str(folder)), ""))
    assert len(set(digests)) == 5


def test_a_list_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    (folder / "list.txt").write_text(f"{folder}/c.tif\n", encoding="utf-8-sig")
    assert [source.path for source in found(f"@{folder}/list.txt")] == [f"{folder}/c.tif"]


def test_a_name_that_is_no_text_is_named(folder: Path) -> None:
    shutil.copy(folder / "c.tif", os.fsdecode(os.fsencode(folder) + b"/\xff.tif"))
    with pytest.raises(CapetownError, match=r"\\udcff.tif['\"]: the name is not UTF-8; rename"):
        found(str(folder))


def test_a_folder_that_cannot_be_listed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refused(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(CapetownError, match=r"deep: cannot be listed \(Permission denied\)$"):
        found(str(folder))


def test_a_glob_of_a_url_is_matched_by_its_file_system(folder: Path) -> None:
    fsspec.filesystem("memory").put(str(folder), "/globbed", recursive=True)
    assert [s.path for s in found("memory://globbed/**/*.j*")] == [
        "memory:///globbed/a.jpeg", "memory:///globbed/deep/d.jpg"
    ]  # fmt: skip


def test_a_list_is_kept_in_its_order_with_what_is_missing(
    folder: Path, model: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    url = f"file://{folder}/a.jpeg"
    (tmp_path / "list.txt").write_text(f"c.tif\n\n  gone.tif  \n{url}\nmemory://gone.tif\nc.tif\n")
    rows = predict(model[1], tmp_path / "out.csv", f"@{tmp_path / 'list.txt'}")
    paths = ["c.tif", "gone.tif", url, "memory://gone.tif", "c.tif"]
    assert rows["path"].tolist() == paths
    assert rows["error"].tolist()[:3] == ["", "no such file.", ""]
    assert rows["error"][3].startswith("cannot be fetched (")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"@list\.txt: nothing there, or out of reach\."),
        (b"\n \n", r"list\.txt: names no file; write one a line\."),
        (b"\xff\xfe\0", r"list\.txt: not a list of files: not UTF-8\."),
    ],
)
def test_a_list_that_is_none_is_one_line(
    content: bytes | None, said: str, model: tuple[nn.Module, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("list.txt").write_bytes(content)
    with pytest.raises(SystemExit, match=f"error: {said}"):
        predict(model[1], Path("out.csv"), "@list.txt")


def test_no_tile_is_read_far_ahead_of_the_model() -> None:
    """So that memory does not grow with the length of a list."""
    read: list[int] = []

    def note(number: int) -> int:
        read.append(number)
        return number

    with ThreadPoolExecutor(4) as pool:
        results = _in_order(pool, note, iter(range(200)), 10)
        ahead = [len(read) - done for done, _ in enumerate(results)]
    assert sorted(read) == list(range(200))
    assert max(ahead) <= 10
