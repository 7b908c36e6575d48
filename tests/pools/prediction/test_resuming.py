"""Shards are whole or absent, and none is computed twice."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from capetown.imagery.tile_ref import TileRef
from capetown.layers import SUFFIXES
from capetown.pools.model.manifest import save_model
from capetown.pools.prediction import executors, run
from capetown.pools.prediction.inference_worker import Job, make_shard
from capetown.storage import written_whole
from tests.pools.prediction import CARD, Model, Predict, Refusal, write_tiles


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Twenty tiles, in shards of three."""
    return write_tiles(tmp_path / "many", 20)


@pytest.fixture(autouse=True)
def shards_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the shards, three tiles each, in the order they are made."""
    made: list[int] = []

    def noted(job: Job, number: int, tiles: Sequence[TileRef]) -> int:
        made.append(number)
        return make_shard(job, number, tiles)

    monkeypatch.setattr(run, "SHARD", 3)
    monkeypatch.setattr(run, "make_shard", noted)
    return made


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupted_run_resumes_and_gives_the_same_bytes(
    predict: Predict, refusal: Refusal, many: Path, tmp_path: Path, shards_made: list[int],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suffix: str,
) -> None:  # fmt: skip
    """Shards made otherwise, and damaged ones, are refused and kept."""
    predict(whole := tmp_path / f"whole{suffix}", many)
    assert sorted(shards_made) == [0, 1, 2, 3, 4, 5, 6]
    out, parts = tmp_path / f"out{suffix}", tmp_path / f"out{suffix}.parts"

    def interrupted(job: Job, number: int, tiles: Sequence[TileRef]) -> int:
        if number == 3:
            raise KeyboardInterrupt
        return make_shard(job, number, tiles)

    with monkeypatch.context() as patched:
        patched.setattr(executors, "cores", lambda: 1)
        patched.setattr(run, "make_shard", interrupted)
        with pytest.raises(SystemExit) as caught:
            predict(out, many)
    assert caught.value.code == 130
    names = ["000000.parquet", "000001.parquet", "000002.parquet", "provenance.json"]
    error = refusal(many / "001.tif", "--out", out)
    assert (error.where, "from other inputs" in error.what) == (str(parts), True)
    assert sorted(path.name for path in parts.iterdir()) == names

    shards_made.clear()
    shard = parts / "000001.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])
    error = refusal(many, "--out", out)
    assert (error.where, "remove it" in error.fix) == (str(shard), True)
    assert sorted(shards_made) == [3, 4, 5, 6]
    assert not out.exists()
    shard.unlink()
    predict(out, many)
    assert sorted(shards_made) == [1, 3, 4, 5, 6]
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()

    # Another run computes nothing and prints the same.
    said, before = capsys.readouterr().out.splitlines()[-2:], out.stat()
    predict(out, many)
    assert len(shards_made) == 5
    assert capsys.readouterr().out.splitlines() == said
    assert out.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(("least", "compiled"), [(20, True), (21, False)])
def test_all_shards_of_a_run_use_the_same_engine(
    predict: Predict, many: Path, monkeypatch: pytest.MonkeyPatch, least: int, compiled: bool
) -> None:
    """A resumed run has fewer tiles left, and chooses as the interrupted one did."""
    asked: list[bool] = []

    def noted(job: Job, number: int, tiles: Sequence[TileRef]) -> int:
        asked.append(job.compiled)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return make_shard(job, number, tiles)

    monkeypatch.setattr(executors, "cores", lambda: 1)
    monkeypatch.setattr(run, "MIN_TILES_TO_COMPILE", least)
    monkeypatch.setattr(run, "make_shard", noted)
    with pytest.raises(SystemExit):
        predict("out.csv", many)
    first = len(asked)
    predict("out.csv", many)
    assert 0 < len(asked) - first < 7
    assert {*asked} == {compiled}


def test_a_second_run_with_the_same_output_is_refused(
    predict: Predict, refusal: Refusal, many: Path, tmp_path: Path
) -> None:
    """The lock of a dead process does not count, even if the file stays."""
    out, lock = tmp_path / "out.csv", tmp_path / "out.csv.lock"
    script = (
        "from capetown.pools.prediction.shards import *;"
        f"output = Output({str(out)!r}, Provenance(model='', inputs='', capetown=''), 0)\n"
        "with output.locked(): print('locked', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        error = refusal(many)
        assert (error.where, "--out" in error.fix) == (str(out), True)
        assert f"process {other.pid} on {socket.gethostname()}" in error.what
        assert {path.name for path in tmp_path.iterdir()} == {"many", "out.csv.lock"}
        other.kill()
    assert lock.exists()
    predict(out, many)
    assert not lock.exists()


def test_writers_of_equal_process_numbers_do_not_share_a_file(tmp_path: Path) -> None:
    """Such as workers in containers, which write the same shard."""
    path = tmp_path / "a.parquet"
    with written_whole(path) as first, written_whole(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_run_leaves_whole_shards_and_resumes(
    predict: Predict, model: Model, many: Path, tmp_path: Path, shards_made: list[int]
) -> None:
    out, parts = tmp_path / "out.csv", tmp_path / "out.csv.parts"
    script = (
        "import os; from capetown.cli import main; from capetown.pools.prediction import run;"
        "make = run.make_shard; run.SHARD = 3;"
        "run.make_shard = lambda job, number, *a: number < 3 and make(job, number, *a) or "
        "(os.kill(os.getpid(), 9) if number == 5 else number);"
        f"main(['predict', {str(many)!r}, '--model', {str(model[1])!r}, '--out', {str(out)!r}])"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    there = {int(path.stem) for path in parts.glob("*.parquet")}
    predict(out, many)
    assert set(shards_made) == set(range(7)) - there


def test_an_output_made_otherwise_is_refused_and_kept(
    predict: Predict, refusal: Refusal, model: Model, many: Path, tmp_path: Path
) -> None:
    out, made_by = tmp_path / "out.csv", tmp_path / "out.csv.made-by.json"
    predict(out, many)
    whole = out.read_bytes()

    def conflict(what: str, folder: Path = model[1], tiles: Path = many) -> None:
        error = refusal(tiles, "--model", folder)
        assert (error.where, what in error.what) == (str(out), True)
        assert "--out" in error.fix
        assert not (tmp_path / "out.csv.parts").exists()

    other = tmp_path / "other"
    save_model(other, model[0], CARD.model_copy(update={"threshold": 0.1}))
    conflict("by another model", folder=other)
    conflict("from other inputs", tiles=many / "001.tif")
    os.utime(many / "003.tif", (1, 1))
    conflict("from other inputs")
    made = json.loads(made_by.read_text())
    made["provenance"]["capetown"] = "0.0.1"
    made_by.write_text(json.dumps(made))
    conflict("by capetown 0.0.1")
    made_by.unlink()
    conflict("already exists")
    assert out.read_bytes() == whole
    out.unlink()
    predict(out, many)
    out.write_bytes(whole[:-1])
    conflict("changed")


def test_a_full_disk_loses_nothing(
    predict: Predict, refusal: Refusal, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.RLIMIT_FSIZE
    soft, hard = resource.getrlimit(limits)
    resource.setrlimit(limits, (2_000, hard))
    try:
        error = refusal(many)
    finally:
        resource.setrlimit(limits, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "File too large" in str(error)
    assert not out.exists()
    assert [path for path in tmp_path.rglob("*") if path.name.endswith(".part")] == []
    assert len(predict(out, many)) == 20
