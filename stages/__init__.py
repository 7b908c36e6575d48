"""The pipeline's stages: ``python -m stages.NAME`` from the repository's root, as dvc.yaml does.

This file puts this checkout's ``src`` first on the path, so that a queued experiment in its
temporary workspace runs its own code and not the installed copy.
"""

import errno
import gc
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
# We have no plugins for pydantic; to look for some it reads every installed package's metadata.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from capetown.checks.preflight import check_before_stage
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.timing import step

# Imports and tables leave hardly any garbage: look for it less often.
gc.set_threshold(50_000)
LOGS = Path("logs")
AFTER_TRAINING = ("evaluate", "report")
# What the system says when there is no room: on the disk, of a quota, or for so large a file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
log = logging.getLogger("capetown")


def root() -> Path:
    """The repository, also from an experiment's temporary workspace, which DVC removes."""
    named = Path(os.environ.get("DVC_ROOT", ""))
    return Path() if named.resolve() == Path.cwd() else named


def kept_logs() -> Path:
    """Where logs stay: an experiment in a temporary workspace has a folder of its name for them."""
    there = root()
    return LOGS if there == Path() else there / LOGS / os.environ.get("DVC_EXP_NAME", "experiment")


def run(stage: Callable[[], None]) -> None:
    """Run a stage with its log in ``logs/NAME.log`` and on standard error.

    A `CapetownError` and a full disk become one line and exit status 1, an interruption one and
    130; anything else keeps its traceback.
    """
    gc.freeze()  # the collector need not walk the imported modules
    name = Path(sys.argv[0]).stem
    try:
        _start_log(name)
        params = load_params(Path("params.yaml"))
        check_before_stage(params, Path(), trains=name not in AFTER_TRAINING)
        with step(f"{name}, in all"):
            stage()
    except CapetownError as error:
        log.error("error: %s", error)  # noqa: TRY400
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("interrupted; run the same command again to go on")  # noqa: TRY400
        sys.exit(130)
    except Exception as error:
        full = _no_room(error)
        if full is None:
            raise
        what = f"{full.filename}: " if full.filename else ""
        log.error("error: %sno room to write (%s); free some and run again", what, full.strerror)  # noqa: TRY400
        sys.exit(1)


def _no_room(error: BaseException | None) -> OSError | None:
    """What the system said of a full disk, also beneath an error that a library made of it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return error
        error = error.__cause__ or error.__context__
    return None


class _LogFile(logging.FileHandler):
    """A log file that reports once, in one line, that it cannot be written, as on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        reason = sys.exc_info()[1]
        logging.getLogger().removeHandler(self)
        # Python 3.13 prints a traceback for an open file whose buffer cannot be written at exit.
        with suppress(OSError):
            self.close()
        log.warning("%s: cannot be written any more (%s)", self.baseFilename, reason)


def _start_log(name: str) -> None:
    """Log to standard error and, unless this is one of torchrun's other processes, to a file."""
    terminal = logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[terminal])
    if os.environ.get("RANK", "0") != "0":
        terminal.setLevel(logging.ERROR)  # they would only repeat the first one
        return
    path = kept_logs() / f"{name}.log"
    try:
        for folder in (LOGS, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        file = _LogFile(path, mode="w")
    except OSError as error:
        raise CapetownError(f"{path}: cannot be written ({error.strerror}).") from error
    file.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(file)
