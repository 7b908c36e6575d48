"""Corrected labels override those of the class folders."""

import logging
from pathlib import Path

import pytest

from capetown.errors import CapetownError
from capetown.pools.dataset.label_corrections import apply_corrections, read_corrections
from capetown.pools.dataset.listing import Tile

TILES = [Tile("yes/a.tif", "yes", "A"), Tile("yes/b.tif", "yes", "A"), Tile("no/c.tif", "no", "B")]


def test_corrections_change_labels_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "capetown")
    file = tmp_path / "corrections.csv"
    file.write_text("path,label\n")
    assert apply_corrections(TILES, file) == (TILES, 0)
    assert caplog.messages == []
    file.write_text("path,label\nyes/b.tif,no\n\nno/c.tif,no\nno/gone.tif,yes\n")
    corrected = [TILES[0], Tile("yes/b.tif", "no", "A"), TILES[2]]
    assert apply_corrections(TILES, file) == (corrected, 1)
    changes, unknown = caplog.messages
    assert "labels of 1 tiles" in changes
    assert "no/gone.tif" in unknown


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("path,label\nno/c.tif,maybe\n", "no/c.tif,maybe"),
        ("path,label\nno/c.tif\n", "no/c.tif"),
        ("path,label\na,no\na,no\na,yes\n", "two labels"),
        ("a,no\n", "header"),
        ('path,label\n"a,no\n', "unexpected end of data"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, fact: str) -> None:
    file = tmp_path / "corrections.csv"
    file.write_text(text)
    with pytest.raises(CapetownError) as error:
        read_corrections(file)
    assert error.value.where == str(file)
    assert fact in error.value.what


def test_a_missing_file_is_logged_and_an_unreadable_one_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_corrections(tmp_path / "none.csv") == {}
    assert str(tmp_path / "none.csv") in caplog.text
    with pytest.raises(CapetownError, match="Is a directory"):
        read_corrections(tmp_path)
