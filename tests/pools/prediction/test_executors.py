"""The same bytes from one process, from processes of this machine, and from a Dask cluster."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import distributed
import numpy as np
import pytest
from PIL import Image
from torch import nn

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import Tiling
from capetown.pools.prediction import executors, loading, run
from capetown.pools.prediction.executors import Backend
from tests import s3
from tests.pools.prediction import predict

NOWHERE = "tcp://127.0.0.1:1"
Pieces = Iterator[tuple[int, Sequence[TileRef]]]


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hundred tiles, in pieces of one, and one that cannot be read."""
    folder = tmp_path / "many"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (100, 40, 40, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:03}.tif")
    (folder / "050.tif").write_bytes(b"II*\0")
    monkeypatch.setattr(run, "PIECE", 1)
    return folder


@contextmanager
def scheduler(workers: int, threads: int = 1) -> Iterator[str]:
    """The address of a Dask cluster of real processes."""
    with distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        dashboard_address="127.0.0.1:0",
        memory_limit=None,
    ) as cluster:
        yield cluster.scheduler_address


def test_a_worker_that_is_killed_changes_no_byte(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model[1], alone := tmp_path / "alone.parquet", str(many))
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    arguments = ["predict", str(many), "--model", str(model[1]), "--out", str(out)]
    before = set(multiprocessing.active_children())
    killed, spread = threading.Event(), run._spread

    def held(hands: Backend, job: run.Job, pieces: Pieces) -> Iterator[int]:
        """Keep half of the pieces back until a worker is killed, however fast the others are."""
        rest = (piece for piece in pieces if piece[0] < 50 or killed.wait(60))
        return spread(hands, job, rest)

    monkeypatch.setattr(run, "_spread", held)
    running = threading.Thread(target=main, args=[[*arguments, "--workers", "2"]])
    running.start()
    while running.is_alive() and len(list(parts.glob("*.parquet"))) < 10:
        time.sleep(0.01)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    workers.pop().kill()
    killed.set()
    assert len(list(parts.glob("*.parquet"))) < 100, "it was killed too late to show anything"
    running.join()
    assert out.read_bytes() == alone.read_bytes()

    # Nobody is asked who could compute anything.
    main([*arguments, "--cluster", NOWHERE])


def test_a_cluster_needs_the_bucket_alone(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, seaweed: s3.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Tiles, model and parts pass through it; the output equals that of this process."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_KEY)
    monkeypatch.setattr(run, "PIECE", 40)
    seaweed.upload(many, f"{s3.WORK}/many")
    tiles, out = f"s3://{s3.WORK}/many", f"s3://{s3.WORK}/out/found.csv"
    with scheduler(1, threads=3) as address:
        main(["predict", tiles, "--model", str(model[1]), "--out", out, "--cluster", address])
    predict(model[1], tmp_path / "here.csv", tiles)
    seaweed.fs.invalidate_cache()
    assert seaweed.fs.cat(f"{s3.WORK}/out/found.csv") == (tmp_path / "here.csv").read_bytes()
    left = sorted(Path(name).name for name in seaweed.fs.find(f"{s3.WORK}/out"))
    assert left == ["found.csv", "found.csv.made-by.json"]


def threads_of_the_engine(model: str) -> int:
    """How many threads this process makes a model ready for."""
    asked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "fastest_answer", lambda *given: asked.append(given[-1]))
        loading._load.__wrapped__(model, "", "cpu")
    return asked[0]


def test_a_worker_computes_with_as_many_threads_as_it_has(model: tuple[nn.Module, Path]) -> None:
    folder = str(model[1])
    with scheduler(1, threads=3) as address, distributed.Client(address) as client:
        assert client.submit(threads_of_the_engine, folder).result() == 3
    assert threads_of_the_engine(folder) == executors.cores()


def refused(said: str, many: Path, model: Path, tmp_path: Path, address: str) -> None:
    out = tmp_path / "out.csv"
    arguments = ["predict", str(many), "--model", str(model), "--out", str(out)]
    with pytest.raises(SystemExit, match=said) as caught:
        main([*arguments, "--cluster", address])
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_cluster_out_of_reach_or_without_workers_is_one_line(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "PATIENCE", 1)
    refused(rf"--cluster {NOWHERE}: no scheduler can be", many, model[1], tmp_path, NOWHERE)
    refused(r"--cluster nonsense: no scheduler can be", many, model[1], tmp_path, "nonsense")
    monkeypatch.setattr(executors, "PATIENCE", 5)
    with scheduler(0) as address:
        refused("has no worker; start some with `dask w", many, model[1], tmp_path, address)


def test_a_worker_of_another_version_is_refused_by_name(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "PATIENCE", 600)
    older = tmp_path / "older" / "capetown-0.0.9.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: capetown\nVersion: 0.0.9\n")
    path = os.pathsep.join([str(older.parent), os.environ.get("PYTHONPATH", "")])
    with scheduler(0) as address:
        worker = subprocess.Popen(
            [sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--name", "old-one"],
            env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            said = r"worker tcp://[\d.:]+ has capetown 0\.0\.9, and this is .* \(1 of 1 workers"
            refused(said, many, model[1], tmp_path, address)
        finally:
            worker.kill()
            worker.wait()


def test_a_late_worker_of_another_version_computes_nothing(tmp_path: Path) -> None:
    job = run.Job("", "", "cpu", "", str(tmp_path), "9.9.9")
    with pytest.raises(CapetownError, match=r"a worker has capetown .*, not 9\.9\.9"):
        run.make_part(job, 0, [])


def test_parts_that_do_not_arrive_are_one_line(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a worker has a folder of the same name that is not shared."""

    @contextmanager
    def apart() -> Iterator[Backend]:
        with ThreadPoolExecutor(1) as pool:
            yield Backend(pool, lambda: 1, shared=True)

    monkeypatch.setattr(run, "make_part", lambda _, number, *__: number)
    with pytest.raises(CapetownError, match="wrote a part that is not there: --out must lie in a"):
        run.predict(
            [str(many)], str(tmp_path / "out.csv"), model=model[1], device="cpu",
            cutting=Tiling(), machines=apart,
        )  # fmt: skip


def test_a_piece_that_no_worker_survives_is_one_line(
    model: tuple[nn.Module, Path], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def doomed() -> Iterator[Backend]:
        with ThreadPoolExecutor(1) as pool:
            yield Backend(pool, lambda: 1, losses=(distributed.CancelledError,))

    def dies(*_: object) -> int:
        raise distributed.CancelledError("a piece")

    monkeypatch.setattr(run, "make_part", dies)
    with pytest.raises(CapetownError, match=r"000\.tif and the 0 tiles after it: lost with the w"):
        run.predict(
            [str(many)], str(tmp_path / "out.csv"), model=model[1], device="cpu",
            cutting=Tiling(), machines=doomed,
        )  # fmt: skip


def test_no_more_pieces_are_handed_out_than_there_is_room_for() -> None:
    """So that neither a scheduler nor this process holds all of them."""
    asked, most = [], []

    def pieces() -> Pieces:
        for number in range(50):
            asked.append(number)
            yield number, [TileRef("a.tif", "/a.tif")]

    def noted(_: object, number: int, __: object) -> int:
        return number

    job = run.Job("", "", "cpu", "", "", "")
    with ThreadPoolExecutor(2) as pool, pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "make_part", noted)
        for count, _ in enumerate(run._spread(Backend(pool, lambda: 4), job, pieces()), 1):
            most.append(len(asked) - count)
    assert len(asked) == 50
    assert max(most) <= 4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--workers", "0"], "--workers 0: ask for one or more"),
        (["--workers", "2", "--cluster", NOWHERE], "--cluster and --workers: choose one"),
        (["--out", "-", "--cluster", NOWHERE], "--out -: a cluster writes to a shared folder"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    more: list[str], said: str, model: tuple[nn.Module, Path], many: Path
) -> None:
    with pytest.raises(SystemExit, match=f"error: {said}"):
        main(["predict", str(many), "--model", str(model[1]), "--out", "out.csv", *more])
