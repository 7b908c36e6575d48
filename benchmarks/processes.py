"""Whole processes, timed from outside.

    python -m benchmarks.processes FOLDER PYTHON_ARGUMENT...

prints the seconds that a Python process took in a folder, and its peak of memory in megabytes.
`run` does so in a process between, which holds little: the system counts a child's peak from what
its parent held when it was started.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# What libgomp does when nobody tells it how threads wait, as `capetown` does.
AS_IT_COMES = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000"}


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of a Python process with these arguments, in a folder."""
    between = [sys.executable, "-m", "benchmarks.processes", str(folder), *command]
    done = subprocess.run(between, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} in {folder} failed; run it to see why")
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def alone(module: str, *arguments: str, as_it_comes: bool = False) -> Any:
    """The last line that a module prints in a process of its own, read as JSON.

    Args:
        module: run as `python -m` does.
        arguments: its command line.
        as_it_comes: whether threads wait as if nobody had told them how.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **(AS_IT_COMES if as_it_comes else {})},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"error: {module} {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the arguments and print what it took."""
    folder, *command = sys.argv[1:]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        # As where Python may keep what it compiled, which is everywhere but in some containers.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
            "PYTHONDONTWRITEBYTECODE": "",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)


if __name__ == "__main__":
    main()
