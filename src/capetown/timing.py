"""How long the named parts of a stage take, in its log."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("capetown")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Log how many seconds a named part of a stage took."""
    start = time.perf_counter()
    try:
        yield
    finally:
        log.info("%-40s %7.2f s", what, time.perf_counter() - start)
