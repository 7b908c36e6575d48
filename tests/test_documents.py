"""Commands in documents and hooks are valid."""

import argparse
import re
import shlex
import sys
from importlib import import_module
from typing import Any

import pytest

from tests import ROOT

BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = re.findall(r"^python -m benchmarks\.(\w+) ?(.*)$", BENCHMARKS, flags=re.MULTILINE)
assert COMMANDS


@pytest.mark.parametrize(("module", "arguments"), COMMANDS)
def test_a_benchmark_accepts_its_documented_command(
    module: str, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, *given: Any) -> None:
        parse(parser, *given)
        sys.exit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr(sys, "argv", [module, *shlex.split(arguments)])
    with pytest.raises(SystemExit) as left:
        import_module(f"benchmarks.{module}").main()
    assert left.value.code == 0


def test_the_hooks_name_existing_files() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    named = re.findall(r"\btests/\S+", hooks)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
