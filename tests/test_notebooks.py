"""The notebooks run from the first cell to the last and show the committed outputs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def shown_texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the text that each code cell shows, without standard error."""
    return [
        "".join(
            output.get("text") or output["data"]["text/plain"]
            for output in cell.outputs
            if output.get("name") != "stderr"
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def masked(shown: str) -> str:
    """Replace the numbers of a text. Training on another processor changes them a little."""
    return " ".join(re.sub(r"\d+([.,]\d+)*", "#", shown).split())


def test_the_notebooks_have_outputs_and_are_small() -> None:
    assert [path.name for path in NOTEBOOKS] == ["hexagons.ipynb", "pools.ipynb"]
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        assert any(shown_texts(notebook)), path.name
        assert path.stat().st_size < 500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_the_committed_outputs(path: Path, tmp_path: Path) -> None:
    """If this fails, run the notebook again and commit it.

    Results of training are compared without numbers. The last cell, with the mistakes, is not.
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
    assert any(expected[path.stem] in text for text in shown)


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
