"""Whole processes, timed from outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of a Python process.

    The system counts a child's peak from what its parent held when it was started.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} in {folder} failed; run it to see why")
    return seconds, usage.ru_maxrss / 1000
