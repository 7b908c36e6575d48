"""docs/outputs.md names every file and column of a run."""

import re
from pathlib import Path

import pandas as pd
import polars as pl

from capetown.city import REQUEST_COLUMNS
from capetown.pools.prediction.per_hexagon import EXPECTED
from capetown.pools.prediction.predictions import SCHEMA
from tests import ROOT
from tests.stages.repository import Repository

PAGE = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", PAGE))
FOLDERS = ("hexes", "splits", "models", "metrics", "evaluation", "reports/tables")
# Named as a folder, or by the report.
WHOLE = ("metrics/plots/", "metrics/train/", "metrics/dvc.yaml", "reports/tables/", "evaluation/")


def columns(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return list(pl.read_parquet_schema(file))
    return list(pd.read_csv(file, nrows=0).columns) if file.suffix == ".csv" else []


def test_the_page_names_each_file_and_column(reproduced: Repository) -> None:
    files = sorted(reproduced.files(*FOLDERS))
    assert {file for file in files if not file.startswith(WHOLE)} <= NAMED
    assert {"evaluation/README.md", "evaluation/mistakes.csv", "tables.xlsx"} <= NAMED
    tables = {Path(file).stem for file in files if file.startswith("reports/tables/")}
    assert tables - {"tables"} <= NAMED
    assert {*SCHEMA.names, *EXPECTED} <= NAMED
    given = {column.name for column in REQUEST_COLUMNS}
    for file in [*files, "raw/requests/inventory.csv", "raw/images/inventory.csv"]:
        if not file.startswith("metrics/plots/"):
            found = {c for c in columns(reproduced.root / file) if c and c not in given}
            found = {c for c in found if not c.startswith("directorate: ")}
            assert found <= NAMED, file
