"""Times of the parts of a stage, in its log."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("capetown")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Log how many seconds a part of a stage took, unless it fails."""
    start = time.perf_counter()
    yield
    log.info("%-40s %7.2f s", what, time.perf_counter() - start)
