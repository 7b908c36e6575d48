"""One process and a Dask cluster give the same bytes, and a cluster's failures are explained."""

import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
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
def scheduler(workers: int, threads: int = 1, memory: str | None = None) -> Iterator[str]:
    """The address of a Dask cluster of real processes."""
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=threads, dashboard_address="127.0.0.1:0",
        memory_limit=memory,
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
        engine._load.__wrapped__(model, "", "cpu", True)
    return asked[0]


def test_the_engine_uses_all_threads_of_its_worker(model: Model) -> None:
    folder = str(model[1])
    with scheduler(1, threads=3) as address, distributed.Client(address) as client:
        assert client.submit(threads_of_the_engine, folder).result() == 3
    assert threads_of_the_engine(folder) == executors.cores()


@contextmanager
def worker(address: str, first: Path) -> Iterator[None]:
    """A worker that finds packages in a folder first. Nobody restarts it when it dies."""
    path = os.pathsep.join([str(first), os.environ.get("PYTHONPATH", "")])
    started = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny",
         "--memory-limit", "0"],
        env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        started.kill()
        started.wait()


def says_version(folder: Path, package: str, number: str) -> Path:
    """A folder whose metadata names a version of a package."""
    metadata = folder / f"{package}-{number}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {number}\n")
    return folder


def test_unusable_clusters_are_refused(
    refusal: Refusal, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unreachable, without workers, or with a worker of another version."""
    monkeypatch.setattr(executors, "PATIENCE", 1)
    for address in (NOWHERE, "nonsense"):
        error = refusal(many, "--cluster", address)
        assert error.where == f"--cluster {address}"
        assert "dask scheduler" in error.fix
    with scheduler(0) as address:
        monkeypatch.setattr(executors, "PATIENCE", 5)
        assert "dask worker" in refusal(many, "--cluster", address).fix
        monkeypatch.setattr(executors, "PATIENCE", 600)
        for package, number, ours in (
            ("capetown", "0.0.9", version("capetown")),
            ("distributed", "2020.1.0", distributed.__version__),
        ):
            with worker(address, says_version(tmp_path / package, package, number)):
                error = refusal(many, "--cluster", address)
            assert f"has {package} {number}, not {ours} (1 of " in error.what
            assert f"{package} {ours}" in error.fix
            wait_until_gone(address)
    assert not (tmp_path / "out.csv").exists()


def wait_until_gone(address: str) -> None:
    """Wait until the scheduler has no worker."""
    with distributed.Client(address, set_as_default=False) as client:
        while client.nthreads():
            time.sleep(0.05)


def test_a_worker_that_cannot_read_its_task_is_reported(
    refusal: Refusal, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package has our version, and cannot be imported."""
    monkeypatch.setattr(executors, "PATIENCE", 600)
    broken = says_version(tmp_path / "broken", "capetown", version("capetown"))
    (broken / "capetown").mkdir()
    (broken / "capetown" / "__init__.py").write_text("raise ImportError('half installed')")
    with scheduler(0) as address, worker(address, broken):
        error = refusal(many, "--cluster", address)
    assert error.where == f"--cluster {address}"
    assert "half installed" in error.what
    assert "install capetown" in error.fix


def test_a_worker_without_memory_is_reported(refusal: Refusal, many: Path) -> None:
    """Its nanny kills it while it loads torch. Running again would not help."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        scheduler(1, memory="300MB") as address,
    ):
        error = refusal(many, "--cluster", address)
    assert Path(error.where).parent == many
    assert "0.3 GB of memory" in error.what
    assert "--memory-limit" in error.fix


def pause(dask_worker: Any) -> None:
    """What a worker does when its memory is nearly full."""
    dask_worker.status = distributed.Status.paused


def error_when_seen(backend: Backend) -> CapetownError:
    """The error of the workers' state, once it is seen, as if it had lasted."""
    while True:
        backend.free_slots.__self__._running = -math.inf  # type: ignore[attr-defined]
        try:
            backend.free_slots()
        except CapetownError as error:
            return error
        time.sleep(0.05)


def test_waiting_for_paused_or_lost_workers_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "LOOK_EVERY", 0)
    with scheduler(0) as address, ExitStack() as stack:
        with worker(address, tmp_path):
            backend = stack.enter_context(executors.cluster(address))
            assert backend.free_slots() > 0
            with distributed.Client(address, set_as_default=False) as client:
                client.run(pause)
            error = error_when_seen(backend)
            assert ("pause" in error.what, "--memory-limit" in error.fix) == (True, True)
        error = error_when_seen(backend)
        assert ("gone" in error.what, "resume" in error.fix) == (True, True)


def test_a_shard_that_nobody_computes_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slots are asked for again while nothing is completed."""
    asked, release = iter([1, 1]), threading.Event()
    monkeypatch.setattr(run, "WAIT", 0.01)
    monkeypatch.setattr(run, "make_shard", lambda *_: release.wait())
    with ThreadPoolExecutor(1) as pool:
        submitting = run._submit(
            Backend(pool, lambda: next(asked)), JOB, {0: [TileRef("a.tif", "/a.tif")]}
        )
        # A generator turns the end of `asked` into this error.
        with pytest.raises(RuntimeError, match="StopIteration"):
            next(submitting)
        release.set()


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
            explain = executors._Workers(None, "").explain
            yield Backend(pool, lambda: 1, not lost, explain)

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
