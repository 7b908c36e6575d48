"""Servers and buckets that several test files share, and an environment without user settings."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests import s3
from tests.browser import chromium
from tests.programs import summary
from tools.synthetic import make_bucket

# Files whose tests one process runs, in their order.
TOGETHER = (
    "tests/stages/test_failures.py",  # share a repository; the last test looks at what is left
    "tests/test_notebooks.py",  # pull data in this checkout, where DVC allows one pull at a time
)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out tests one by one, except for the files of `TOGETHER`, which come first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Distribute the tests evenly."""
    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than cores, because some tests wait, and at most five."""
    return min((os.cpu_count() or 1) + 1, 5)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that run the pipeline, because they take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/stages/"))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name missing programs, and code in which only the wording changed."""
    skipped = terminalreporter.stats.get("skipped", [])
    lines = summary(report.longrepr[2] for report in skipped)
    passed = terminalreporter.stats.get("passed", [])
    found = {
        path for report in passed for name, path in report.user_properties if name == "reworded"
    }
    if found:
        lines.append(
            f"only comments or docstrings changed in {', '.join(sorted(found))}: "
            "`dvc checkout && dvc commit -f` updates dvc.lock and runs nothing"
        )
    for line in lines:
        terminalreporter.write_line(line, yellow=True, bold=True)


# Variables that change what tools do: credentials, folders, proxies, colours and line width.
SETTINGS = (
    *("AWS_", "DASK_", "DVC_", "GDAL_", "GIT_", "HF_", "HUGGING", "TQDM_", "XDG_"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONWARNINGS"),
)
TERMINAL = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# A checkout may belong to another user, as in a container.
GIT_CONFIG = "[user]\n\tname = test\n\temail = test@example.org\n[safe]\n\tdirectory = *\n"

# A time limit per example would only measure how busy the machine is.
settings.register_profile(
    "any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the tests an own home folder, so that they ignore the user's settings."""
    for name in list(os.environ):
        if name.startswith(SETTINGS) or name in TERMINAL or name.upper() in PROXIES:
            del os.environ[name]
    # Without bytecode on the disk, hundreds of processes would compile the package again.
    sys.dont_write_bytecode = False
    home = Path(tempfile.mkdtemp(prefix="capetown-home-"))
    config.add_cleanup(partial(shutil.rmtree, home, ignore_errors=True))
    (home / ".gitconfig").write_text(GIT_CONFIG)
    os.environ |= {
        "HOME": str(home),
        # Several test processes share the cores.
        "OMP_NUM_THREADS": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "system"),
    }


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small bucket like the City's."""
    folder = tmp_path_factory.mktemp("bucket") / "city"
    make_bucket(folder, requests=300, tiles=24, seed=2, tile_side=64)
    return folder


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory, bucket: Path) -> Iterator[s3.Server]:
    """SeaweedFS with that bucket as ``public/city``, and as ``private``, which needs keys."""
    with s3.seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        server.upload(bucket, f"{s3.PUBLIC}/city")
        server.upload(bucket, s3.PRIVATE)
        yield server


@pytest.fixture
def proxy(seaweed: s3.Server) -> Iterator[s3.Proxy]:
    """A proxy in front of SeaweedFS, without faults."""
    with s3.proxy(seaweed.url) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. While Playwright runs, other modules could not start an event loop."""
    with chromium() as opened:
        yield opened
