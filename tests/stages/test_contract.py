"""dvc.yaml declares what the stages use, and dvc.lock belongs to this code and these outs."""

import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate
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
# Keys that the properties of `Params` read.
PROPERTIES = {
    "backbone": {"model", "backbones.${model}"},
    "download.source": {"download.bucket", "download.folder"},
}
# Files that a stage runs and does not depend on: they affect no out. Editing one must not train a
# model again.
EXEMPT = {
    "src/capetown/__init__.py": "sets how threads wait",
    "src/capetown/checks/preflight.py": "finds problems before the stages start",
    "src/capetown/errors.py": "defines the error",
    "src/capetown/storage.py": "moves files that are complete",
    "src/capetown/params.py": "refuses values but changes none; DVC tracks the values",
    "src/capetown/timing.py": "logs durations",
    "stages/__init__.py": "starts the stage, and turns an error into one line",
    "stages/outs.py": "replaces outs",
}


def paths(entries: list[Any]) -> set[str]:
    """Return the paths of a list of deps, outs, metrics or plots, which may have settings."""
    return {path for entry in entries for path in (entry if isinstance(entry, dict) else [entry])}


def outs(stage: dict[str, Any]) -> set[str]:
    return {p for kind in ("outs", "metrics", "plots") for p in paths(stage.get(kind, []))}


def resolved(key: str) -> str:
    """Fill in a key of the params like DVC."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(value_of(found[1])), key)


def value_of(key: str) -> Any:
    """Return the value of a dotted key of the params, or `MISSING`."""
    value: Any = PARAMS
    for part in resolved(key).split("."):
        value = value.get(part, MISSING)
    return value


@cache
def parsed(path: Path) -> ast.Module:
    """Parse a file, and remove its docstrings."""
    module = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(module):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return module


def module_file(name: str) -> Path | None:
    """Return the file of a module of this repository."""
    base = ROOT / ("src" if name.startswith("capetown") else ".") / name.replace(".", "/")
    return next(filter(Path.is_file, (base.with_suffix(".py"), base / "__init__.py")), None)


def imported_files(path: Path) -> Iterator[Path]:
    """Yield files of this repository that a file imports, also the `__init__.py` of packages."""
    for node in ast.walk(parsed(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".") if name.startswith(("capetown", "stages")) else []
            yield from filter(None, map(module_file, accumulate(parts, "{}.{}".format)))


def code_of(stage: str) -> set[str]:
    """Return every file of this repository that a stage runs, except imports of exempt files."""
    found: set[Path] = set()
    left = [ROOT / "stages" / f"{stage}.py", ROOT / "stages" / "__init__.py"]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            if str(path.relative_to(ROOT)) not in EXEMPT or path.name == "__init__.py":
                left.extend(imported_files(path))
    return {str(path.relative_to(ROOT)) for path in found}


def params_read(stage: str) -> set[str]:
    """Return dotted keys that a stage's script reads from `params`, at most two levels deep."""
    reads: set[str] = set()
    script = ast.unparse(parsed(ROOT / "stages" / f"{stage}.py"))
    script = re.sub(r"capetown\.params|params\.yaml", "", script)
    assert not re.search(r"\bparams\b(?!\.| = )", script), "params passed on whole"
    for first, second in re.findall(r"\bparams\.(\w+)(?:\.(\w+))?", script):
        key = f"{first}.{second}" if second and isinstance(PARAMS.get(first), dict) else first
        reads |= PROPERTIES.get(first) or PROPERTIES.get(key, {key})
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
def test_deps_are_the_modules_that_a_stage_runs(name: str) -> None:
    deps = {dep for dep in paths(STAGES[name]["deps"]) if dep.startswith(("src/", "stages/"))}
    assert all((ROOT / dep).exists() for dep in deps)
    code = code_of(name)
    under = {dep: {f for f in code if f == dep or f.startswith(f"{dep}/")} for dep in deps}
    assert [dep for dep, files in under.items() if not files] == []
    left = code - EXEMPT.keys() - set().union(*under.values())
    assert {f for f in left if parsed(ROOT / f).body} == set()


def test_loading_params_changes_no_value() -> None:
    """`params.py` is exempt, because DVC tracks the values."""
    assert load_params(ROOT / "params.yaml").model_dump() == PARAMS


def test_the_embedded_remote_is_the_only_one_and_not_the_default() -> None:
    config = (ROOT / ".dvc" / "config").read_text()
    assert "remote =" not in config
    [out] = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    assert (out["path"], out["remote"], out["push"]) == ("data", "embedded", False)


# --- dvc.lock ---------------------------------------------------------------------------------

LOCK: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "dvc.lock")["stages"]
HASHES = {out["path"]: out["md5"] for stage in LOCK.values() for out in stage.get("outs", [])}


def listing(path: Path) -> dict[str, Path]:
    """Return the files of a folder by their names in it, without bytecode."""
    files = [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return {p.relative_to(path).as_posix(): p for p in files}


def md5(path: Path) -> str:
    """Return DVC's hash of a file, or of a folder: the hash of its sorted listing as JSON."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    names = listing(path)
    entries = [{"md5": md5(names[name]), "relpath": name} for name in sorted(names)]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def without_wording(path: Path) -> Any:
    """Return the code of a dependency without comments and docstrings, or the bytes of data."""
    if path.is_dir():
        return {name: without_wording(file) for name, file in listing(path).items()}
    return ast.dump(parsed(path)) if path.suffix == ".py" else path.read_bytes()


@pytest.fixture(scope="module")
def locked_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code in the last commit that changed dvc.lock; an empty folder without history."""
    folder = tmp_path_factory.mktemp("locked")
    last = 'git archive $(git log -1 --format=%h -- dvc.lock) src stages | tar -x -C "$0"'
    subprocess.run(["bash", "-c", last, folder], cwd=ROOT, check=False, capture_output=True)
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_has_todays_command_params_and_outs(name: str) -> None:
    assert LOCK[name]["cmd"] == STAGES[name]["cmd"]
    expected = {resolved(key): value_of(key) for key in STAGES[name].get("params", [])}
    assert LOCK[name].get("params", {}).get("params.yaml", {}) == expected
    locked = {out["path"]: out["md5"] for out in LOCK[name].get("outs", [])}
    assert set(locked) == outs(STAGES[name])
    for path, found in locked.items():
        if path.startswith("metrics/") or path in ("reports/index.md", "reports/images"):
            assert md5(ROOT / path) == found, path


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_has_todays_deps(
    name: str, locked_code: Path, record_property: Callable[[str, object], None]
) -> None:
    """Changed code makes a stage stale. Changed comments and docstrings do not."""
    locked = {dep["path"]: dep["md5"] for dep in LOCK[name]["deps"]}
    assert set(locked) == set(map(resolved, paths(STAGES[name]["deps"])))
    produced = {p for stage in STAGES.values() for p in outs(stage)}
    data = {o["path"]: o["md5"] for o in yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]}
    for path, found in locked.items():
        if path in data:
            assert found == data[path], path
        elif path in HASHES:
            assert found == HASHES[path], f"{path} differs from the out of its stage"
        elif not any(path.startswith(f"{out}/") for out in produced):
            then, now = locked_code / path, ROOT / path
            if found != md5(now):
                said = f"{path} changed since dvc.lock was written: run `dvc repro`"
                assert then.exists(), said
                assert found == md5(then), said
                assert without_wording(then) == without_wording(now), said
                record_property("reworded", path)
