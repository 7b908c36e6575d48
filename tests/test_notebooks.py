"""The notebooks run from the first cell to the last, and show what they say they do."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def texts(outputs: list[nbformat.NotebookNode]) -> Iterator[str]:
    """The texts that a cell shows, without those on standard error.

    Neighbouring pieces of a stream are joined: how a kernel cuts it depends on the machine.
    """
    shown = [output for output in outputs if output.get("name") != "stderr"]
    for kind, group in groupby(shown, key=lambda output: output.output_type):
        if kind == "stream":
            yield "".join(output["text"] for output in group)
        else:
            yield from (output["data"]["text/plain"] for output in group)


def said(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """The texts that each code cell shows."""
    return [list(texts(cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"]


def masked(shown: list[str]) -> str:
    """Texts without their numbers, which training on another processor changes a little."""
    return " ".join(re.sub(r"\d+([.,]\d+)*", "#", " ".join(shown)).split())


def test_how_a_kernel_cuts_a_stream_changes_no_text() -> None:
    def outputs(*pieces: tuple[str, str]) -> list[nbformat.NotebookNode]:
        streams = [{"output_type": "stream", "name": name, "text": text} for name, text in pieces]
        shown = {"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": {}}
        return [nbformat.NotebookNode(output) for output in (*streams, shown, streams[0])]  # type: ignore[no-untyped-call]

    whole = outputs(("stdout", "3,832 cells\n"))
    cut = outputs(("stdout", "3,832 cells"), ("stderr", "late"), ("stdout", "\n"))
    assert list(texts(whole)) == ["3,832 cells\n", "x", "3,832 cells\n"]
    assert list(texts(cut)) == ["3,832 cells\n", "x", "3,832 cells"]


def test_both_are_there_with_what_they_show_and_are_small() -> None:
    assert [path.name for path in NOTEBOOKS] == ["hexagons.ipynb", "pools.ipynb"]
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        assert any(said(notebook)), path.name
        assert path.stat().st_size < 500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_what_is_committed(path: Path, tmp_path: Path) -> None:
    """In a folder that has the embedded bucket alone, whatever `raw/` holds by now.

    Run it anew from the embedded bucket and commit it where this fails: it shows what the code no
    longer says. What training gives is compared without its numbers, and the mistakes not at all.
    """
    subprocess.run(
        [sys.executable, "-m", "dvc", "pull", "--quiet", "data.dvc"], cwd=ROOT, check=True
    )
    (tmp_path / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "data.dvc", tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(path, tmp_path / "notebooks")
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    committed = said(notebook)
    where = {"metadata": {"path": tmp_path / "notebooks"}}
    NotebookClient(notebook, timeout=1800, resources=where).execute()
    shown = said(notebook)
    if path.stem == "hexagons":
        assert shown == committed
    else:
        assert list(map(masked, shown[:-1])) == list(map(masked, committed[:-1]))
    expected = {"hexagons": "20,000 of 20,000 agree", "pools": "320 tiles in"}
    assert any(expected[path.stem] in text for cell in shown for text in cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_clone_without_data_says_what_to_run(path: Path, tmp_path: Path) -> None:
    (tmp_path / "data.dvc").touch()
    cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
    first = next(cell.source for cell in cells if cell.cell_type == "code")
    ran = subprocess.run(
        [sys.executable, "-c", first], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith("in this clone: run `dvc pull data.dvc`")
