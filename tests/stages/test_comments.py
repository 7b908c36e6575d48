"""DVC rewrites params.yaml for an experiment: every comment stays, and one line changes."""

import difflib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.cli import main

from tests import ROOT

TEXT = (ROOT / "params.yaml").read_text()


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


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository, entered, with this params file and one stage, which copies it."""
    root = tmp_path_factory.mktemp("repository")
    (root / "params.yaml").write_text(TEXT)
    stage = {"cmd": "cp params.yaml kept.yaml", "deps": ["params.yaml"], "outs": ["kept.yaml"]}
    (root / "dvc.yaml").write_text(json.dumps({"stages": {"copy": stage}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        git("init", "--quiet")
        assert main(["init", "--quiet"]) == 0
        git("add", ".")
        git("commit", "--quiet", "--message", "start")
        yield root


def git(*arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.check_output(["git", *author, *arguments], text=True)


def queued(setting: str) -> str:
    """The params of an experiment that waits in DVC's queue."""
    assert main(["exp", "run", "--queue", "--quiet", "--set-param", setting]) == 0
    return git("show", "refs/exps/celery/stash:params.yaml")


def test_setting_any_key_changes_its_line_and_no_comment(repository: Path) -> None:
    for key, value in KEYS.items():
        changed = queued(f"{key}={json.dumps(other(value))}")
        assert comments(changed) == comments(TEXT), key
        lines = list(difflib.unified_diff(TEXT.splitlines(), changed.splitlines(), n=0))[2:]
        kinds = "".join(line[0] for line in lines).replace("@", "")
        size = len(value) if isinstance(value, list) else 1
        assert kinds == "-" * size + "+" * size, (key, lines)


@pytest.mark.parametrize(
    "settings",
    [
        ["train.mean=[0.5,0.5,0.5]", "train.std=[0.2,0.2,0.2]", "seed=1"],
        ['download.include=["a","b"]', "seed=1", "download.max_tiles=7"],
    ],
)
def test_a_list_costs_no_comment_then_or_later(repository: Path, settings: list[str]) -> None:
    git("checkout", "--quiet", "params.yaml")
    for setting in settings:
        assert main(["exp", "run", "--quiet", "--set-param", setting]) == 0
        assert comments(Path("params.yaml").read_text()) == comments(TEXT)
    assert Path("kept.yaml").read_text() == Path("params.yaml").read_text()
