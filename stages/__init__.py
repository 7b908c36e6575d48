"""The pipeline's stages. dvc.yaml runs ``python -m stages.NAME`` in the repository's root.

This file puts the checkout's ``src`` first on the path. A queued experiment then runs the code of
its temporary workspace, not the installed package.
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
# pydantic reads the metadata of every installed package to find plugins. The project has none.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from capetown.checks.preflight import check_history, check_room
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.timing import step

# Imports and tables leave little garbage, so the collector runs less often.
gc.set_threshold(50_000)
LOGS = Path("logs")
# The disk is full, a quota is used up, or the file exceeds a size limit.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
log = logging.getLogger("capetown")


def root() -> Path:
    """Return the repository's root, also in an experiment's temporary workspace."""
    named = Path(os.environ.get("DVC_ROOT", ""))
    return Path() if named.resolve() == Path.cwd() else named


def log_folder() -> Path:
    """Return the folder for logs. One of a temporary workspace lies in the repository's `logs/`.

    DVC removes a temporary workspace, so its logs are kept under the experiment's name.
    """
    there = root()
    return LOGS if there == Path() else there / LOGS / os.environ.get("DVC_EXP_NAME", "experiment")


def run(stage: Callable[[], None]) -> None:
    """Run a stage and log to standard error and ``logs/NAME.log``.

    A `CapetownError` and a full disk become one line and exit status 1. Ctrl-C becomes one line
    and 130. Any other exception keeps its traceback.
    """
    gc.freeze()  # the collector skips the imported modules
    name = Path(sys.argv[0]).stem
    try:
        _start_log(name)
        load_params(Path("params.yaml"))
        check_room(Path())
        if root() != Path():
            check_history(root())
        with step(f"{name}, in total"):
            stage()
    except CapetownError as error:
        log.error("error: %s", error)  # noqa: TRY400
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("interrupted; run the same command again to continue")  # noqa: TRY400
        sys.exit(130)
    except Exception as error:
        full = _no_room(error)
        if full is None:
            raise
        where = f"{full.filename}: " if full.filename else ""
        log.error("error: %sno room to write (%s); free some and run again", where, full.strerror)  # noqa: TRY400
        sys.exit(1)


def _no_room(error: BaseException | None) -> OSError | None:
    """Find the system's error about a full disk, also behind an error that a library raised."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return error
        error = error.__cause__ or error.__context__
    return None


class _LogFile(logging.FileHandler):
    """A log file that warns once if it cannot be written, for example on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        reason = sys.exc_info()[1]
        logging.getLogger().removeHandler(self)
        # Python 3.13 prints a traceback for an open file whose buffer cannot be written at exit.
        with suppress(OSError):
            self.close()
        log.warning("%s: the log cannot be written any more (%s)", self.baseFilename, reason)


def _start_log(name: str) -> None:
    """Log to standard error and to a file. Under torchrun only the first process does."""
    terminal = logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[terminal])
    if os.environ.get("RANK", "0") != "0":
        terminal.setLevel(logging.ERROR)  # the others would repeat the first one
        return
    path = log_folder() / f"{name}.log"
    try:
        for folder in (LOGS, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        file = _LogFile(path, mode="w")
    except OSError as error:
        raise CapetownError(f"the log cannot be written ({error.strerror})", where=path) from error
    file.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(file)
