"""Results come in parts that are whole or absent, and nothing is computed twice."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from capetown.cli import main
from capetown.pools.model.modelfile import save_model
from capetown.pools.prediction import running
from capetown.pools.prediction.running import make_part
from tests.pools.prediction import CARD, predict


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Twenty tiles, in pieces of three."""
    folder = tmp_path / "many"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:02}.tif")
    return folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pieces of three, whose numbers are noted as they are made."""
    made: list[int] = []

    def noted(job: running.Job, number: int, *rest: object) -> int:
        made.append(number)
        return make_part(job, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "PIECE", 3)
    monkeypatch.setattr(running, "make_part", noted)
    return made


def interrupt_after(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the run when so many parts are written."""
    done: list[int] = []

    def stopped(job: running.Job, number: int, *rest: object) -> int:
        if number >= parts:
            while len(done) < parts:  # another thread may be slower with an earlier one
                time.sleep(0.01)
            raise KeyboardInterrupt
        unread = make_part(job, number, *rest)  # type: ignore[arg-type]
        done.append(number)
        return unread

    monkeypatch.setattr(running, "make_part", stopped)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, small_pieces: list[int],
    monkeypatch: pytest.MonkeyPatch, suffix: str,
) -> None:  # fmt: skip
    predict(model[1], whole := tmp_path / f"whole{suffix}", str(many))
    assert sorted(small_pieces) == [0, 1, 2, 3, 4, 5, 6]
    small_pieces.clear()

    out = tmp_path / f"out{suffix}"
    with monkeypatch.context() as patched:
        interrupt_after(3, patched)
        with pytest.raises(SystemExit) as caught:
            predict(model[1], out, str(many))
        assert caught.value.code == 130
    assert not out.exists()
    parts = {path.name for path in (tmp_path / f"out{suffix}.parts").iterdir()}
    assert parts == {"origin.json", "000000.parquet", "000001.parquet", "000002.parquet"}

    predict(model[1], out, str(many))
    assert sorted(small_pieces) == [3, 4, 5, 6]
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / f"out{suffix}.parts").exists()


def test_a_run_that_is_killed_leaves_whole_parts_and_goes_on(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, small_pieces: list[int]
) -> None:
    out, parts = tmp_path / "out.csv", tmp_path / "out.csv.parts"
    script = (
        "import os; from capetown.cli import main; from capetown.pools.prediction import running;"
        "make = running.make_part; running.PIECE = 3;"
        "running.make_part = lambda job, number, *a: number < 3 and make(job, number, *a) or "
        "(os.kill(os.getpid(), 9) if number == 5 else number);"
        f"main(['predict', {str(many)!r}, '--model', {str(model[1])!r}, '--out', {str(out)!r}])"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    there = {int(path.stem) for path in parts.glob("*.parquet")}
    predict(model[1], out, str(many))
    assert set(small_pieces) == set(range(7)) - there


def test_a_second_run_computes_nothing_and_says_the_same(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, small_pieces: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out.csv"
    predict(model[1], out, str(many))
    said, before = capsys.readouterr().out, out.stat()
    small_pieces.clear()
    predict(model[1], out, str(many))
    assert small_pieces == []
    assert capsys.readouterr().out == said
    assert out.stat().st_mtime_ns == before.st_mtime_ns


def test_an_output_that_was_made_otherwise_is_refused_and_kept(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, small_pieces: list[int]
) -> None:
    out, made_by = tmp_path / "out.csv", tmp_path / "out.csv.made-by.json"
    predict(model[1], out, str(many))
    whole = out.read_bytes()

    def refused(said: str, folder: Path = model[1], tiles: str = str(many)) -> None:
        with pytest.raises(SystemExit, match=rf"out\.csv: {said}; remove it or name another") as e:
            predict(folder, out, tiles)
        assert "\n" not in str(e.value)
        assert not (tmp_path / "out.csv.parts").exists()

    other = tmp_path / "other"
    save_model(other, model[0], CARD.model_copy(update={"threshold": 0.1}))
    refused("was made by another model", folder=other)
    refused("was made from other inputs", tiles=str(many / "01.tif"))
    os.utime(many / "03.tif", (1, 1))
    refused("was made from other inputs")
    made = json.loads(made_by.read_text())
    made["origin"]["capetown"] = "0.0.1"
    made_by.write_text(json.dumps(made))
    refused(r"was made by capetown 0\.0\.1, and this is .*")
    made_by.unlink()
    refused("is there, and nothing says from what")
    assert out.read_bytes() == whole
    out.unlink()
    predict(model[1], out, str(many))
    out.write_bytes(whole[:-1])
    refused("was changed since it was made")


def test_parts_that_were_made_otherwise_are_refused_and_kept(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parts = tmp_path / "out.csv", tmp_path / "out.csv.parts"
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        with pytest.raises(SystemExit):
            predict(model[1], out, str(many))
    before = sorted(parts.iterdir())
    said = r"out\.csv\.parts: holds parts of a run that was interrupted, made from other inputs"
    with pytest.raises(SystemExit, match=f"{said}; remove it to start anew"):
        predict(model[1], out, str(many / "01.tif"))
    assert sorted(parts.iterdir()) == before


def test_a_full_disk_is_one_line_and_costs_nothing(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.RLIMIT_FSIZE
    soft, hard = resource.getrlimit(limits)
    resource.setrlimit(limits, (2_000, hard))
    try:
        with pytest.raises(SystemExit, match=r"cannot be written \(File too large\)") as caught:
            predict(model[1], out, str(many))
    finally:
        resource.setrlimit(limits, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert [path for path in tmp_path.rglob("*") if path.name.endswith(".part")] == []
    assert len(predict(model[1], out, str(many))) == 20


def test_a_damaged_part_is_one_line(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.parts" / "000001.parquet"
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        with pytest.raises(SystemExit):
            predict(model[1], out, str(many))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(SystemExit, match=r"000001\.parquet: damaged or gone .*; remove it and run"):
        predict(model[1], out, str(many))
    part.unlink()
    assert len(predict(model[1], out, str(many))) == 20


def test_rows_are_the_same_however_they_are_written(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path
) -> None:
    csv = predict(model[1], tmp_path / "out.csv", str(many))
    parquet = predict(model[1], tmp_path / "out.parquet", str(many))
    assert list(csv) == list(parquet)
    pd.testing.assert_series_equal(csv["probability"], parquet["probability"])
    assert csv["path"].tolist() == [str(many / f"{n:02}.tif") for n in range(20)]


def test_an_ending_that_is_no_format_is_refused(model: tuple[nn.Module, Path], many: Path) -> None:
    with pytest.raises(SystemExit, match=r"--out out\.txt: ends in neither \.csv nor \.parquet"):
        main(["predict", str(many), "--model", str(model[1]), "--out", "out.txt"])
