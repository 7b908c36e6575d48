"""The notebooks run from the first cell to the last and show the committed outputs."""

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
    """Yield the texts that a cell shows, without standard error.

    Neighbouring pieces of a stream are joined: a kernel cuts it anywhere.
    """
    shown = [output for output in outputs if output.get("name") != "stderr"]
    for kind, group in groupby(shown, key=lambda output: output.output_type):
        if kind == "stream":
            yield "".join(output["text"] for output in group)
        else:
            yield from (output["data"]["text/plain"] for output in group)


def shown_texts(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Return the texts that each code cell shows."""
    return [list(texts(cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"]


def masked(shown: list[str]) -> str:
    """Return texts without numbers: training on another processor changes them a little."""
    return " ".join(re.sub(r"\d+([.,]\d+)*", "#", " ".join(shown)).split())


def test_the_pieces_of_a_stream_do_not_matter() -> None:
    def outputs(*pieces: tuple[str, str]) -> list[nbformat.NotebookNode]:
        streams = [{"output_type": "stream", "name": name, "text": text} for name, text in pieces]
        shown = {"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": {}}
        return [nbformat.NotebookNode(output) for output in (*streams, shown, streams[0])]  # type: ignore[no-untyped-call]

    whole = outputs(("stdout", "3,832 cells\n"))
    cut = outputs(("stdout", "3,832 cells"), ("stderr", "late"), ("stdout", "\n"))
    assert list(texts(whole)) == ["3,832 cells\n", "x", "3,832 cells\n"]
    assert list(texts(cut)) == ["3,832 cells\n", "x", "3,832 cells"]


def test_both_have_outputs_and_are_small() -> None:
    assert [path.name for path in NOTEBOOKS] == ["hexagons.ipynb", "pools.ipynb"]
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        assert any(shown_texts(notebook)), path.name
        assert path.stat().st_size < 500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_the_committed_outputs(path: Path, tmp_path: Path) -> None:
    """Run it in a folder with the embedded data only.

    If this fails, run the notebook again and commit it. Results of training are compared without
    numbers, and the mistakes not at all.
    """
    subprocess.run(
        [sys.executable, "-m", "dvc", "pull", "--quiet", "data.dvc"], cwd=ROOT, check=True
    )
    (tmp_path / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "data.dvc", tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(path, tmp_path / "notebooks")
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    committed = shown_texts(notebook)
    where = {"metadata": {"path": tmp_path / "notebooks"}}
    NotebookClient(notebook, timeout=1800, resources=where).execute()
    shown = shown_texts(notebook)
    if path.stem == "hexagons":
        assert shown == committed
    else:
        assert list(map(masked, shown[:-1])) == list(map(masked, committed[:-1]))
    expected = {"hexagons": "20,000 of 20,000 agree", "pools": "320 tiles in"}
    assert any(expected[path.stem] in text for cell in shown for text in cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_clone_without_data_names_the_command(path: Path, tmp_path: Path) -> None:
    (tmp_path / "data.dvc").touch()
    cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
    first = next(cell.source for cell in cells if cell.cell_type == "code")
    ran = subprocess.run(
        [sys.executable, "-c", first], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith("in this clone: run `dvc pull data.dvc`")
