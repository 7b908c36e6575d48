"""Labels that people corrected take the place of the folders'."""

import logging
from pathlib import Path

import pytest

from capetown.errors import CapetownError
from capetown.pools.dataset.label_corrections import corrected, read_corrections
from capetown.pools.dataset.listing import Tile

TILES = [Tile("yes/a.tif", "yes", "A"), Tile("yes/b.tif", "yes", "A"), Tile("no/c.tif", "no", "B")]


def file_of(folder: Path, text: str) -> Path:
    file = folder / "corrections.csv"
    file.write_text(text)
    return file


def test_corrections_replace_labels_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "capetown")
    file = file_of(tmp_path, "path,label\nyes/b.tif,no\n\nno/c.tif,no\nno/gone.tif,yes\n")
    found, changed = corrected(TILES, file)
    assert found == [TILES[0], Tile("yes/b.tif", "no", "A"), TILES[2]]
    assert changed == 1
    assert caplog.messages == [
        f"{file} changes the labels of 1 tiles",
        f"{file}: 1 paths are no tile, such as no/gone.tif",
    ]


def test_no_corrections_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert corrected(TILES, file_of(tmp_path, "path,label\n")) == (TILES, 0)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\nno/c.tif,maybe\n", "'no/c.tif,maybe' is not a path and yes or no."),
        ("path,label\nno/c.tif\n", "'no/c.tif' is not a path and yes or no."),
        ("path,label\na,no,no\n", "'a,no,no' is not a path and yes or no."),
        ("path,label\na,no\na,no\na,yes\n", "a has both labels; keep one line of it."),
        ("a,no\n", "its first line must be path,label."),
        ("", "its first line must be path,label."),
        ('path,label\n"a,no\n', "not a table of path,label (unexpected end of data)."),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = file_of(tmp_path, text)
    with pytest.raises(CapetownError) as caught:
        read_corrections(file)
    assert str(caught.value) == f"{file}: {said}"


def test_a_missing_file_is_said_and_one_that_cannot_be_read_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_corrections(tmp_path / "none.csv") == {}
    assert caplog.messages == [f"{tmp_path / 'none.csv'}: no such file, so no label is corrected"]
    with pytest.raises(CapetownError, match=r"cannot be read \(Is a directory\)"):
        read_corrections(tmp_path)
