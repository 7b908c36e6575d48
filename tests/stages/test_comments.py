"""DVC rewrites params.yaml for an experiment: every comment stays, and one line changes."""

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tests import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield above + key, value


KEYS = dict(leaves(yaml.safe_load(TEXT)))


def other(value: object) -> object:
    """Another value that the key may have, of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case list():
            return [f"other-{item}" for item in value]
        case None:
            return 7
        case _:
            return f"other-{value}"


def comments(text: str) -> list[str]:
    return re.findall(r"(?:^| )(#.*)", text, re.MULTILINE)


def with_settings(path: Path, *settings: str) -> str:
    """The params file after ``dvc exp run -S`` has rewritten it, by the function that does so."""
    path.write_text(TEXT, encoding="utf-8")
    for setting in settings:
        apply_overrides(path, [setting])
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("key", KEYS)
def test_setting_a_key_changes_its_line_and_no_comment(key: str, tmp_path: Path) -> None:
    value = KEYS[key]
    changed = with_settings(tmp_path / "params.yaml", f"{key}={json.dumps(other(value))}")
    assert comments(changed) == comments(TEXT)
    lines = list(difflib.unified_diff(TEXT.splitlines(), changed.splitlines(), n=0))[2:]
    kinds = "".join(line[0] for line in lines).replace("@", "")
    size = len(value) if isinstance(value, list) else 1
    assert kinds == "-" * size + "+" * size, lines


@pytest.mark.parametrize(
    "settings",
    [
        ["train.mean=[0.5,0.5,0.5]", "train.std=[0.2,0.2,0.2]", "seed=1"],
        ['download.include=["a","b"]', "seed=1", "download.max_tiles=7"],
    ],
)
def test_a_list_costs_no_comment_then_or_later(settings: list[str], tmp_path: Path) -> None:
    changed = with_settings(tmp_path / "params.yaml", *settings)
    assert comments(changed) == comments(TEXT)
