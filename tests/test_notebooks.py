"""The notebooks run from the first cell to the last, and show what they say they do."""

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


def said(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell of code shows as text, without what goes to standard error."""
    return [
        [
            output["text"] if output.output_type == "stream" else output["data"]["text/plain"]
            for output in cell.outputs
            if output.get("name") != "stderr"
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def masked(texts: list[str]) -> str:
    """Texts without their numbers, which training on another processor changes a little."""
    return " ".join(re.sub(r"\d+([.,]\d+)*", "#", " ".join(texts)).split())


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
    assert any(expected[path.stem] in text for texts in shown for text in texts)


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
