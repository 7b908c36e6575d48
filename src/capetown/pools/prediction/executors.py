"""Who computes shards: the threads of this process, or a Dask cluster.

Both are executors as in `concurrent.futures` and give the same bytes.
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from capetown.errors import CapetownError, one_line

if TYPE_CHECKING:
    from distributed import Client

# Seconds to wait for a scheduler, and for its first worker.
PATIENCE = 30
RETRIES = 2


@dataclass(frozen=True)
class Backend:
    """Where shards are computed.

    Attributes:
        free_slots: the number of shards that can be in progress now.
        remote: True if workers see only the output's folder, not this machine's disk.
        worker_failures: exceptions a shard raises when its worker dies.
    """

    executor: Executor
    free_slots: Callable[[], int]
    remote: bool = False
    worker_failures: tuple[type[BaseException], ...] = ()


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
            another version of this package.
    """
    where = f"--cluster {address}"
    try:
        from distributed import CancelledError, Client, KilledWorker
        from distributed.comm import CommClosedError
    except ImportError as error:
        raise CapetownError(
            "Dask is not installed", where=where, fix="run `pip install 'capetown[cluster]'`"
        ) from error
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # a wrong address fails in many ways
        raise CapetownError(
            f"no scheduler answers ({one_line(error)})", where=where,
            fix="start one with `dask scheduler`, which prints its address",
        ) from error  # fmt: skip
    with client:
        _check_workers(client, where)
        yield Backend(
            # Dask replaces a worker that dies. A shard is retried: the network may have failed.
            client.get_executor(pure=False, retries=RETRIES),
            lambda: int(2 * sum(client.nthreads().values())),
            remote=True,
            worker_failures=(KilledWorker, CommClosedError, CancelledError),
        )


def _check_workers(client: "Client", where: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise CapetownError(
            "the cluster has no worker", where=where, fix="start some with `dask worker ADDRESS`"
        ) from error
    ours = version("capetown")
    # A function of the standard library: a worker without capetown can run it, too.
    found: dict[str, Any] = client.run(version, "capetown", on_error="return")
    others = {name: theirs for name, theirs in found.items() if theirs != ours}
    if others:
        name, theirs = next(iter(others.items()))
        what = f"capetown {theirs}" if isinstance(theirs, str) else "no capetown"
        raise CapetownError(
            f"worker {name} has {what} ({len(others)} of {len(found)} workers differ)",
            where=where, fix=f"install capetown {ours} on all workers",
        )  # fmt: skip
