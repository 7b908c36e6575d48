"""The pipeline's stages: ``python -m stages.NAME`` from the repository's root, as dvc.yaml does.

This file puts this checkout's ``src`` first on the path, so that a queued experiment in its
temporary workspace runs its own code and not the installed copy.
"""

import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from capetown.errors import CapetownError

# Imports and tables leave hardly any garbage: look for it less often.
gc.set_threshold(50_000)
# We have no plugins for pydantic; to look for some it reads every installed package's metadata.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
log = logging.getLogger("capetown")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Log how many seconds a named part of a stage took."""
    start = time.perf_counter()
    try:
        yield
    finally:
        log.info("%-40s %7.2f s", what, time.perf_counter() - start)


def run(stage: Callable[[], None]) -> None:
    """Run a stage with its log in ``logs/NAME.log`` and on standard error.

    A `CapetownError` becomes one line and exit status 1, an interruption one and 130; anything
    else keeps its traceback.
    """
    gc.freeze()  # the collector need not walk the imported modules
    name = Path(sys.argv[0]).stem
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if os.environ.get("RANK", "0") == "0":
        try:
            Path("logs").mkdir(exist_ok=True)
            handlers.append(logging.FileHandler(f"logs/{name}.log", mode="w"))
        except OSError as error:
            sys.exit(f"error: logs/{name}.log cannot be written ({error.strerror})")
    else:  # torchrun's other processes would only repeat the first one
        handlers[0].setLevel(logging.ERROR)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    try:
        with step(f"{name}, in all"):
            stage()
    except CapetownError as error:
        log.error("error: %s", error)  # noqa: TRY400
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("interrupted; run the same command again to go on")  # noqa: TRY400
        sys.exit(130)
