"""JSON and CSV files as other stages leave them, empty ones included."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

EMPTY_TABLE = pd.DataFrame()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def read_csv(path: Path, **types: type) -> pd.DataFrame:
    """A table of texts and numbers; an empty one of an empty file."""
    if not path.stat().st_size:
        return EMPTY_TABLE
    return pd.read_csv(path, dtype=types or None, keep_default_na=not types)
