"""The notebooks run from the first cell to the last, on the embedded bucket."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_both_are_there_without_outputs() -> None:
    assert [path.name for path in NOTEBOOKS] == ["hexagons.ipynb", "pools.ipynb"]
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
        assert not any(cell.get("outputs") for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    """In a folder that has the embedded bucket alone, whatever `raw/` holds by now."""
    subprocess.run(
        [sys.executable, "-m", "dvc", "pull", "--quiet", "data.dvc"], cwd=ROOT, check=True
    )
    (tmp_path / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "data.dvc", tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(path, tmp_path / "notebooks")
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    where = {"metadata": {"path": tmp_path / "notebooks"}}
    client = NotebookClient(notebook, timeout=1800, resources=where)
    client.execute()
    shown = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    expected = {"hexagons": "20,000 of 20,000 agree", "pools": "320 tiles in"}
    assert expected[path.stem] in shown


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
