"""What dvc.yaml says is what the code does, and dvc.lock is what they last made together."""

import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from capetown.params import load_params
from tests import ROOT

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = PIPELINE["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
MISSING = object()
# What the properties of `Params` read, by their names.
PROPERTIES = {"backbone": {"model", "backbones.${model}"}}
# What a stage runs and does not depend on: it decides whether the stage runs and what is said of
# it, never what is in an out, and editing it should not train a model again.
EXEMPT = {
    "src/capetown/__init__.py": "how threads wait",
    "src/capetown/checks/preflight.py": "looks for what would stop the pipeline later",
    "src/capetown/errors.py": "what an error is",
    "src/capetown/storage.py": "puts what was written in its place",
    "src/capetown/params.py": "refuses values, changes none; DVC tracks the values themselves",
    "src/capetown/timing.py": "logs how long a part of a stage took",
    "stages/__init__.py": "starts the stage, logs, and turns an error into a line",
    "stages/outs.py": "puts outs in place, empty ones where there was no data",
}


def paths(entries: list[Any]) -> set[str]:
    """The paths of a list of deps, outs, metrics or plots, which may carry settings."""
    return {path for entry in entries for path in (entry if isinstance(entry, dict) else [entry])}


def outs(stage: dict[str, Any]) -> set[str]:
    return {p for kind in ("outs", "metrics", "plots") for p in paths(stage.get(kind, []))}


def resolved(key: str) -> str:
    """A key of the params as DVC fills it in."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(value_of(found[1])), key)


def value_of(key: str) -> Any:
    """The value of a dotted key of the params, or `MISSING`."""
    value: Any = PARAMS
    for part in resolved(key).split("."):
        value = value.get(part, MISSING)
    return value


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def module_file(name: str) -> Path | None:
    """The file of a module of this repository, if it is one."""
    base = ROOT / ("src" if name.startswith("capetown") else ".") / name.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported_files(path: Path) -> Iterator[Path]:
    """Files of this repository that a file imports, wherever in it, with their packages' own."""
    for node in ast.walk(tree(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] not in ("capetown", "stages"):
                continue
            for n in range(1, len(parts) + 1):
                if file := module_file(".".join(parts[:n])):
                    yield file


def code_of(stage: str) -> set[str]:
    """Every file of this repository that a stage runs, relative to its root.

    Not what an exempt one imports: that does not reach an out either.
    """
    found: set[Path] = set()
    left = [ROOT / "stages" / f"{stage}.py", ROOT / "stages" / "__init__.py"]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            if str(path.relative_to(ROOT)) not in EXEMPT or path.name == "__init__.py":
                left.extend(imported_files(path))
    return {str(path.relative_to(ROOT)) for path in found}


def only_says(path: Path) -> bool:
    """Whether a module has a docstring and nothing else: that of a room without a way in."""
    return len(tree(path).body) == 1 and ast.get_docstring(tree(path)) is not None


def params_read(stage: str) -> set[str]:
    """Dotted keys that a stage's script reads from its `params`, two levels deep at most."""
    reads: set[str] = set()
    script = tree(ROOT / "stages" / f"{stage}.py")
    parents = {child: node for node in ast.walk(script) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(script):
        if not (isinstance(node, ast.Name) and node.id == "params"):
            continue
        if isinstance(node.ctx, ast.Store):
            continue
        first = parents[node]
        assert isinstance(first, ast.Attribute), f"{stage}: params passed on whole"
        second = parents[first]
        if first.attr in PROPERTIES:
            reads |= PROPERTIES[first.attr]
        elif isinstance(second, ast.Attribute) and isinstance(PARAMS[first.attr], dict):
            reads.add(f"{first.attr}.{second.attr}")
        else:
            reads.add(first.attr)
    return reads


@pytest.mark.parametrize("name", STAGES)
def test_dvc_deletes_no_out_before_its_stage_succeeds(name: str) -> None:
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[name].get(kind, []):
            [settings] = entry.values()
            assert settings["persist"] is True


@pytest.mark.parametrize("name", STAGES)
def test_params_read_are_declared_and_declared_ones_exist(name: str) -> None:
    declared: list[str] = STAGES[name].get("params", [])
    for key in declared:
        assert value_of(key) is not MISSING, f"{key} is not in params.yaml"
    read = params_read(name)
    covered = {r for r in read if r in declared or r.split(".")[0] in declared}
    assert read - covered == set(), "read but not declared"
    used = {d for d in declared if any(r == d or r.startswith(f"{d}.") for r in read)}
    assert set(declared) - used == set(), "declared but not read"


@pytest.mark.parametrize("name", STAGES)
def test_every_module_a_stage_runs_lies_under_a_dep_and_every_dep_holds_one(name: str) -> None:
    deps = {dep for dep in paths(STAGES[name]["deps"]) if dep.startswith(("src/", "stages/"))}
    assert all((ROOT / dep).exists() for dep in deps)
    code = code_of(name)
    under = {dep: {f for f in code if f == dep or f.startswith(f"{dep}/")} for dep in deps}
    assert [dep for dep, files in under.items() if not files] == []
    left = code - EXEMPT.keys() - set().union(*under.values())
    assert {f for f in left if not only_says(ROOT / f)} == set()


def test_loading_params_changes_no_value() -> None:
    """So `params.py` decides only whether a stage runs: what it runs on is what DVC tracks."""
    assert load_params(ROOT / "params.yaml").model_dump() == PARAMS


def test_only_the_embedded_remote_is_configured_and_it_is_no_default() -> None:
    config = (ROOT / ".dvc" / "config").read_text()
    assert "remote =" not in config
    [out] = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    assert out["path"] == "data"
    assert out["remote"] == "embedded"
    assert out["push"] is False


# --- dvc.lock ---------------------------------------------------------------------------------

LOCK: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "dvc.lock")["stages"]
HASHES = {out["path"]: out["md5"] for stage in LOCK.values() for out in stage.get("outs", [])}


def listing(path: Path) -> dict[str, Path]:
    """The files of a folder by their names in it; those of a cache of Python's do not count."""
    files = [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return {p.relative_to(path).as_posix(): p for p in files}


def md5(path: Path) -> str:
    """DVC's hash of a file, or of a folder: of its sorted listing as JSON."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    names = listing(path)
    entries = [{"md5": md5(names[name]), "relpath": name} for name in sorted(names)]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def without_wording(path: Path) -> Any:
    """A dependency without comments and docstrings; other files than Python's by their bytes."""
    if path.is_dir():
        return {name: without_wording(file) for name, file in listing(path).items()}
    if path.suffix != ".py":
        return path.read_bytes()
    module = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(module):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(module)


@pytest.fixture(scope="module")
def locked_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code as Git has it in the last commit that changed dvc.lock; empty without Git."""
    folder = tmp_path_factory.mktemp("locked")
    last = 'git archive $(git log -1 --format=%h -- dvc.lock) src stages | tar -x -C "$0"'
    subprocess.run(["bash", "-c", last, folder], cwd=ROOT, check=False, capture_output=True)
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_has_todays_command_and_params(name: str) -> None:
    assert LOCK[name]["cmd"] == STAGES[name]["cmd"]
    expected = {}
    for key in STAGES[name].get("params", []):
        expected[resolved(key)] = value_of(key)
    assert LOCK[name].get("params", {}).get("params.yaml", {}) == expected


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_has_todays_deps(
    name: str, locked_code: Path, record_property: Callable[[str, object], None]
) -> None:
    """Only code that computes something else makes a stage stale, not comments or docstrings."""
    locked = {dep["path"]: dep["md5"] for dep in LOCK[name]["deps"]}
    assert set(locked) == set(map(resolved, paths(STAGES[name]["deps"])))
    produced = {p for stage in STAGES.values() for p in outs(stage)}
    data = {o["path"]: o["md5"] for o in yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]}
    for path, found in locked.items():
        if path in data:
            assert found == data[path], path
        elif path in HASHES:
            assert found == HASHES[path], f"{path} is not what its stage made"
        elif not any(path.startswith(f"{out}/") for out in produced):
            then, now = locked_code / path, ROOT / path
            if found != md5(now):
                said = f"{path} changed since dvc.lock was written: run `dvc repro`"
                assert then.exists(), said
                assert found == md5(then), said
                assert without_wording(then) == without_wording(now), said
                record_property("reworded", path)


@pytest.mark.parametrize("name", STAGES)
def test_what_git_tracks_of_the_outs_is_what_the_lock_says(name: str) -> None:
    locked = {out["path"]: out["md5"] for out in LOCK[name].get("outs", [])}
    assert set(locked) == outs(STAGES[name])
    for path, found in locked.items():
        if path.startswith("metrics/") or path in ("reports/index.md", "reports/images"):
            assert md5(ROOT / path) == found, path
