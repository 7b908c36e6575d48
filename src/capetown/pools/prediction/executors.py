"""Who does the work: threads of this process, processes of this machine, or a Dask cluster.

All of them are executors as in `concurrent.futures`, and get the same pieces.
"""

import logging
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
    """Who does the work.

    Attributes:
        executor: takes pieces.
        room: how many pieces can be worked on at once, now.
        shared: True if they have nothing of this machine but what is in the output's folder.
        losses: what a piece raises that those who work on it do not live to finish.
    """

    executor: Executor
    room: Callable[[], int]
    shared: bool = False
    losses: tuple[type[BaseException], ...] = ()


@contextmanager
def this_process() -> Iterator[Backend]:
    """A thread a core, each of which computes on a piece of its own."""
    count = cores()
    with ThreadPoolExecutor(count) as pool:
        try:
            yield Backend(pool, lambda: count)
        finally:
            pool.shutdown(cancel_futures=True)


def threads() -> int:
    """Pieces that this process works on at once: as a Dask worker, or with a thread a core."""
    # Only what Dask started is its worker, and has imported this.
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError):
            return int(get_worker().state.nthreads)
    return cores()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def processes(count: int) -> Iterator[Backend]:
    """A Dask cluster of this machine's, of one-threaded processes.

    Raises:
        CapetownError: if Dask is not installed.
    """
    _check_installed("--workers")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=count, threads_per_worker=1, memory_limit=None, silence_logs=logging.ERROR,
            dashboard_address="127.0.0.1:0",  # a free port: two runs share a machine
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield _of(client, shared=False)


@contextmanager
def cluster(address: str) -> Iterator[Backend]:
    """A Dask cluster that is there.

    Raises:
        CapetownError: if Dask is not installed, the cluster cannot be reached or has no worker, or
            a worker has another version of this package.
    """
    _check_installed("--cluster")
    from distributed import Client

    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # an address may be wrong in any way
        raise CapetownError(
            f"--cluster {address}: no scheduler can be reached there ({one_line(error)}); start "
            "one with `dask scheduler`, which prints its address."
        ) from error
    with client:
        _check_workers(client, address)
        yield _of(client, shared=True)


def _of(client: "Client", *, shared: bool) -> Backend:
    def room() -> int:
        return int(2 * sum(client.nthreads().values()))

    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    # A worker that dies is replaced; what fails is tried again, since a network may have failed.
    executor = client.get_executor(pure=False, retries=RETRIES)
    return Backend(executor, room, shared, (KilledWorker, CommClosedError, CancelledError))


def _check_workers(client: "Client", address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise CapetownError(
            f"--cluster {address}: has no worker; start some with `dask worker {address}`."
        ) from error
    ours = version("capetown")
    # A function of Python's own: what has no capetown can run it, too.
    found: dict[str, Any] = client.run(version, "capetown", on_error="return")
    others = {name: theirs for name, theirs in found.items() if theirs != ours}
    if others:
        name, theirs = next(iter(others.items()))
        what = f"capetown {theirs}" if isinstance(theirs, str) else "no capetown"
        raise CapetownError(
            f"--cluster {address}: worker {name} has {what}, and this is {ours} ({len(others)} of "
            f"{len(found)} workers differ): install capetown {ours} there."
        )


def _check_installed(option: str) -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise CapetownError(
            f"{option}: needs Dask: pip install 'capetown[cluster]', or requirements.lock."
        ) from error
