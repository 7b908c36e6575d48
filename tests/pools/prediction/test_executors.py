"""One process and a Dask cluster give the same bytes, and a cluster's failures are explained."""

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
from typing import Any

import distributed
import pytest

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.imagery.tile_ref import TileRef
from capetown.pools.prediction import command, engine, executors, run
from capetown.pools.prediction.executors import Backend
from capetown.pools.prediction.inference_worker import Job, make_shard
from tests import s3
from tests.pools.prediction import Model, Predict, Refusal, write_tiles

NOWHERE = "tcp://127.0.0.1:1"
JOB = Job("", "", "cpu", "", "", "9.9.9")


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hundred tiles in shards of one; one tile is unreadable."""
    folder = write_tiles(tmp_path / "many", 100)
    (folder / "050.tif").write_bytes(b"II*\0")
    monkeypatch.setattr(run, "SHARD", 1)
    return folder


@contextmanager
def scheduler(workers: int, threads: int = 1) -> Iterator[str]:
    """The address of a Dask cluster of real processes."""
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=threads, dashboard_address="127.0.0.1:0",
        memory_limit=None,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


def test_a_killed_worker_changes_no_byte(
    predict: Predict, model: Model, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(alone := tmp_path / "alone.parquet", many)
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    arguments = ["predict", str(many), "--model", str(model[1]), "--out", str(out)]
    killed, submit = threading.Event(), run._submit

    class HalfHeld(dict[int, Sequence[TileRef]]):
        """Holds half of the shards back until a worker is killed."""

        def __iter__(self) -> Iterator[int]:
            return (n for n in super().__iter__() if n < 50 or killed.wait(60))

    monkeypatch.setattr(run, "_submit", lambda w, job, shards: submit(w, job, HalfHeld(shards)))
    before = set(multiprocessing.active_children())
    with scheduler(2) as address:
        workers = set(multiprocessing.active_children()) - before
        assert len(workers) == 2
        running = threading.Thread(target=main, args=[[*arguments, "--cluster", address]])
        running.start()
        while running.is_alive() and len(list(parts.glob("*.parquet"))) < 10:
            time.sleep(0.01)
        workers.pop().kill()
        killed.set()
        assert len(list(parts.glob("*.parquet"))) < 100, "the worker was killed too late"
        running.join()
    assert out.read_bytes() == alone.read_bytes()
    # A complete output needs no cluster.
    main([*arguments, "--cluster", NOWHERE])


def test_a_cluster_needs_only_the_bucket(
    predict: Predict, model: Model, many: Path, tmp_path: Path, seaweed: s3.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Tiles, model and shards pass through it; the output equals that of this process."""
    keys = {"ACCESS_KEY_ID": s3.ACCESS_KEY, "SECRET_ACCESS_KEY": s3.SECRET_KEY}
    for name, value in {"ENDPOINT_URL": seaweed.url, **keys}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(run, "SHARD", 40)
    seaweed.upload(many, f"{s3.WORK}/many")
    tiles, out = f"s3://{s3.WORK}/many", f"s3://{s3.WORK}/out/found.csv"
    with scheduler(1, threads=3) as address:
        main(["predict", tiles, "--model", str(model[1]), "--out", out, "--cluster", address])
    predict("here.csv", tiles)
    seaweed.fs.invalidate_cache()
    assert seaweed.fs.cat(f"{s3.WORK}/out/found.csv") == (tmp_path / "here.csv").read_bytes()
    left = sorted(Path(name).name for name in seaweed.fs.find(f"{s3.WORK}/out"))
    assert left == ["found.csv", "found.csv.made-by.json"]


def threads_of_the_engine(model: str) -> int:
    """The number of threads that this process loads a model for."""
    asked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "fastest_engine", lambda *given: asked.append(given[-1]))
        engine._load.__wrapped__(model, "", "cpu")
    return asked[0]


def test_the_engine_uses_all_threads_of_its_worker(model: Model) -> None:
    folder = str(model[1])
    with scheduler(1, threads=3) as address, distributed.Client(address) as client:
        assert client.submit(threads_of_the_engine, folder).result() == 3
    assert threads_of_the_engine(folder) == executors.cores()


def test_unusable_clusters_are_refused(
    refusal: Refusal, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unreachable, without workers, or with a worker of another version."""
    monkeypatch.setattr(executors, "PATIENCE", 1)
    for address in (NOWHERE, "nonsense"):
        error = refusal(many, "--cluster", address)
        assert error.where == f"--cluster {address}"
        assert "dask scheduler" in error.fix
    older = tmp_path / "older" / "capetown-0.0.9.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: capetown\nVersion: 0.0.9\n")
    path = os.pathsep.join([str(older.parent), os.environ.get("PYTHONPATH", "")])
    with scheduler(0) as address:
        monkeypatch.setattr(executors, "PATIENCE", 5)
        assert "dask worker" in refusal(many, "--cluster", address).fix
        monkeypatch.setattr(executors, "PATIENCE", 600)
        worker = subprocess.Popen(
            [sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--name", "old-one"],
            env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            what = refusal(many, "--cluster", address).what
        finally:
            worker.kill()
            worker.wait()
    assert "has capetown 0.0.9 (1 of 1 workers differ)" in what
    assert not (tmp_path / "out.csv").exists()


def test_a_late_worker_of_another_version_computes_nothing() -> None:
    with pytest.raises(CapetownError) as caught:
        make_shard(JOB, 0, [])
    assert "9.9.9" in caught.value.fix


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_worker_or_shard_is_explained(
    lost: bool, many: Path, tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard does not arrive if a worker has an unshared folder of the same name."""

    @contextmanager
    def failing(_: str) -> Iterator[Backend]:
        with ThreadPoolExecutor(1) as pool:
            yield Backend(pool, lambda: 1, not lost, (distributed.CancelledError,))

    def fake(_: Job, number: int, __: object) -> int:
        if lost:
            raise distributed.CancelledError("a shard")
        return number

    monkeypatch.setattr(command, "cluster", failing)
    monkeypatch.setattr(run, "make_shard", fake)
    error = refusal(many, "--cluster", "any")
    assert error.where == str(many / "000.tif" if lost else tmp_path / "out.csv.parts")
    assert ("run the command again" if lost else "--out") in error.fix


def test_no_more_shards_are_submitted_than_there_are_free_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So neither a scheduler nor this process holds all of them."""
    submitted: list[int] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, function: Any, /, *given: Any) -> Any:  # type: ignore[override]
            submitted.append(given[1])
            return super().submit(function, *given)

    shards = {n: [TileRef("a.tif", "/a.tif")] for n in range(50)}
    monkeypatch.setattr(run, "make_shard", lambda _, number, __: number)
    with Pool(2) as pool:
        done = enumerate(run._submit(Backend(pool, lambda: 4), JOB, shards))
        assert max(len(submitted) - count for count, _ in done) <= 4
    assert submitted == list(range(50))
