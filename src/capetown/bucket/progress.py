"""Progress of a transfer: a bar on a terminal, elsewhere a line from time to time."""

import logging
import sys
import time
from types import TracebackType
from typing import Self

log = logging.getLogger("capetown")

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts bytes, objects and retries, and shows them. A context manager."""

    def __init__(self, objects: int, size: int) -> None:
        self.objects = objects
        self.size = size
        self.objects_done = 0
        self.bytes_done = 0
        self.retries = 0
        self._start = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, size: int) -> None:
        """Count bytes that arrived; fewer than none if they arrived in vain."""
        self.bytes_done += size
        self._show(size)

    def finish(self) -> None:
        """Count an object that is whole."""
        self.objects_done += 1
        self._show(0)

    def retried(self) -> None:
        """Count a request that is made again."""
        self.retries += 1
        self._show(0)

    def line(self) -> str:
        """Objects, bytes, rate, time left and retries so far, in one line."""
        rate = self.bytes_done / max(time.monotonic() - self._start, 1e-9)
        left = f"{(self.size - self.bytes_done) / rate:.0f} s left" if rate > 0 else "waiting"
        return (
            f"{self.objects_done} of {self.objects} objects, "
            f"{self.bytes_done / 1e6:.1f} of {self.size / 1e6:.1f} MB, "
            f"{rate / 1e6:.1f} MB/s, {left}, {self.retries} retries"
        )

    def _show(self, size: int) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"{self.objects_done}/{self.objects} objects, {self.retries} retries", refresh=False
            )
            self._bar.update(size)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log.info("%s", self.line())
