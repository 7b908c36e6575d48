"""Who computes shards: the threads of this process, or a Dask cluster.

Both are executors as in `concurrent.futures` and give the same bytes. A Dask cluster can fail
without an error: a worker that cannot read a message dies, and one whose memory is nearly full
pauses. So the versions are compared, and the workers are watched.
"""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from capetown.errors import CapetownError, one_line

if TYPE_CHECKING:
    from distributed import Client

# Seconds to wait for a scheduler, for its first worker, and for others after the last one is lost.
PATIENCE = 30
# The least seconds between two looks at the workers.
LOOK_EVERY = 1
# Seconds for all workers to load torch, perhaps from a slow disk.
LOADING = 300
RETRIES = 2
# The function that workers load.
TASK = "capetown.pools.prediction.inference_worker:make_shard"
# Packages whose versions must agree up to so many numbers, or messages may be unreadable.
AGREEING = {"distributed": 3, "dask": 3, "python": 2, "cloudpickle": 2, "msgpack": 2}
MORE_MEMORY = "give each worker more, such as `dask worker --memory-limit 4GB`, or fewer threads"
T = TypeVar("T")


@dataclass(frozen=True)
class Backend:
    """Where shards are computed.

    Attributes:
        free_slots: the number of shards that can be in progress now; raises a `CapetownError` if
            the workers cannot go on.
        remote: True if workers see only the output's folder, not this machine's disk.
        explain: what happened to the worker of a shard that raised an exception, and how to fix it.
            None if such exceptions are bugs.
    """

    executor: Executor
    free_slots: Callable[[], int]
    remote: bool = False
    explain: Callable[[Exception], tuple[str, str]] | None = None


@contextmanager
def this_process() -> Iterator[Backend]:
    """One thread per core, each computing a shard of its own."""
    count = cores()
    with ThreadPoolExecutor(count) as pool:
        try:
            yield Backend(pool, lambda: count)
        finally:
            pool.shutdown(cancel_futures=True)


def threads() -> int:
    """The number of shards this process computes at once: a Dask worker's threads, or its cores."""
    # Only a process that Dask started is a worker, and has imported this.
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError):
            return int(get_worker().state.nthreads)
    return cores()


def cores() -> int:
    """The number of cores that this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


@contextmanager
def cluster(address: str) -> Iterator[Backend]:
    """A running Dask cluster, by its scheduler's address.

    Raises:
        CapetownError: Dask is missing, the cluster is unreachable or has no worker, or a worker has
            another version of this package or of Dask.
    """
    where = f"--cluster {address}"
    try:
        from distributed import Client
        from distributed.versions import VersionMismatchWarning
    except ImportError as error:
        raise CapetownError(
            "Dask is not installed", where=where, fix="run `pip install 'capetown[cluster]'`"
        ) from error
    try:
        with warnings.catch_warnings():
            # `_Workers` names the difference in one line.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # a wrong address fails in many ways
        raise CapetownError(
            f"no scheduler answers ({one_line(error)})", where=where,
            fix="start one with `dask scheduler`, which prints its address",
        ) from error  # fmt: skip
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise CapetownError(
                "the cluster has no worker", where=where,
                fix="start some with `dask worker ADDRESS`",
            ) from error  # fmt: skip
        workers = _Workers(client, where)
        yield Backend(
            # Dask replaces a worker that dies. A shard is retried: the network may have failed.
            client.get_executor(pure=False, retries=RETRIES),
            workers.free_slots,
            remote=True,
            explain=workers.explain,
        )


class _Workers:
    """The workers of a cluster, looked at from time to time."""

    def __init__(self, client: "Client", where: str) -> None:
        self._client, self._where = client, where
        self._checked: set[str] = set()
        self._slots = 0
        self._looked, self._running = -float("inf"), time.monotonic()

    def free_slots(self) -> int:
        """Twice the threads of the workers; `CapetownError` if these cannot go on."""
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._look()
        return self._slots

    def _look(self) -> None:
        # Later versions of Dask return five workers by default.
        info = self._limited(lambda: self._client.scheduler_info(n_workers=-1))["workers"]
        if not info.keys() <= self._checked:
            self._check_versions()
            self._checked |= info.keys()
        self._slots = 2 * sum(int(worker["nthreads"]) for worker in info.values())
        self._looked = now = time.monotonic()
        if any(worker["status"] == "running" for worker in info.values()):
            self._running = now
        elif now - self._running > PATIENCE and info:
            raise CapetownError(
                f"all {len(info)} workers pause since their memory is nearly full",
                where=self._where, fix=MORE_MEMORY,
            )  # fmt: skip
        elif now - self._running > PATIENCE:
            raise CapetownError(
                "all workers are gone", where=self._where,
                fix="read their logs, start others, and run the command again to resume",
            )  # fmt: skip

    def _check_versions(self) -> None:
        """Compare the versions of the scheduler and the workers with those of this process."""
        found: dict[str, Any] = self._limited(self._client.get_versions)
        ours = found["client"]["packages"]
        others = {"the scheduler": found["scheduler"]} | {
            f"worker {name}": worker for name, worker in found["workers"].items()
        }
        for package, numbers in AGREEING.items():
            theirs = {name: other["packages"].get(package) for name, other in others.items()}
            self._check(package, numbers, ours[package], theirs)
        # A function of the standard library: a worker without capetown can run it, too.
        mine = self._limited(lambda: self._client.run(version, "capetown", on_error="return"))
        # Other errors are those of workers that have just left.
        answers = {
            f"worker {name}": answer
            for name, answer in mine.items()
            if isinstance(answer, (str, PackageNotFoundError))
        }
        self._check("capetown", 3, version("capetown"), answers)
        # A worker that fails to load what a task names dies without a word. This one answers.
        loaded: dict[str, Any] = self._limited(
            lambda: self._client.run(resolve_name, TASK, on_error="return"), LOADING
        )
        for name, answer in loaded.items():
            if isinstance(answer, (ImportError, AttributeError)):
                raise CapetownError(
                    f"worker {name} cannot load capetown ({one_line(answer)})", where=self._where,
                    fix=f"install capetown {version('capetown')} there again",
                )  # fmt: skip

    def _check(self, package: str, numbers: int, ours: str, found: dict[str, Any]) -> None:
        def start(text: str) -> list[str]:
            return text.split(".")[:numbers]

        others = {
            name: theirs
            for name, theirs in found.items()
            if not isinstance(theirs, str) or start(theirs) != start(ours)
        }
        for name, theirs in others.items():
            what = f"{package} {theirs}" if isinstance(theirs, str) else f"no {package}"
            raise CapetownError(
                f"{name} has {what}, not {ours} ({len(others)} of {len(found)} differ)",
                where=self._where, fix=f"install {package} {ours} there",
            )  # fmt: skip

    def explain(self, error: Exception) -> tuple[str, str]:
        """What happened to a worker, and how to fix it."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        if isinstance(error, (CommClosedError, CancelledError)):
            return f"a worker was lost ({one_line(error)})", "run the command again to resume"
        if not isinstance(error, KilledWorker):
            return f"a worker failed ({type(error).__name__}: {one_line(error)})", "read its log"
        last, times = error.last_worker, f"{error.allowed_failures + 1} times"
        # Nannies report workers that they kill for their memory.
        events = self._limited(lambda: self._client.get_events("worker-restart-memory"))
        if any(event["worker"] == last.address for _, event in events):
            limit = f"{last.memory_limit / 1e9:.1f} GB"
            return f"a worker was killed {times} since it used its {limit} of memory", MORE_MEMORY
        return (
            f"a worker died {times}",
            f"read the log of {last.address}; if its memory was too small, {MORE_MEMORY}",
        )

    def _limited(self, call: Callable[[], T], seconds: float = 0) -> T:
        """The result of a call, which may wait for ever if a process does not answer."""
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

        # The interpreter does not wait for a daemon.
        threading.Thread(target=work, daemon=True).start()
        try:
            return answer.result(seconds or PATIENCE)
        except Exception as error:  # the network fails in many ways
            raise CapetownError(
                f"the cluster does not answer ({one_line(error)})", where=self._where,
                fix="read the log of its scheduler, and run the command again to resume",
            ) from error  # fmt: skip
