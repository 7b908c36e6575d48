"""Servers and buckets that several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from capetown.sample import make_bucket
from tests import s3
from tests.browser import chromium
from tests.programs import summary


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the missing programs for which tests were skipped, and how to install them."""
    skipped = terminalreporter.stats.get("skipped", [])
    for line in summary(report.longrepr[2] for report in skipped):
        terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small bucket like the City's."""
    folder = tmp_path_factory.mktemp("bucket") / "city"
    make_bucket(folder, requests=300, tiles=24, seed=2, tile_side=64)
    return folder


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory, bucket: Path) -> Iterator[s3.Server]:
    """SeaweedFS with that bucket, readable by anyone as ``public/city``, by keys as ``private``."""
    with s3.seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        server.upload(bucket, f"{s3.PUBLIC}/city")
        server.upload(bucket, s3.PRIVATE)
        yield server


@pytest.fixture(scope="session")
def shared_proxy(seaweed: s3.Server) -> Iterator[s3.Proxy]:
    with s3.proxy(seaweed.url) as made:
        yield made


@pytest.fixture
def proxy(shared_proxy: s3.Proxy) -> s3.Proxy:
    """A proxy in front of SeaweedFS that nothing goes wrong in yet."""
    shared_proxy.reset()
    return shared_proxy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the session: while Playwright runs, other tests could start no event loop."""
    with chromium() as opened:
        yield opened
