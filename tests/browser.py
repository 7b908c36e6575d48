"""Pages from disk in headless Chromium without a network, and what goes wrong in them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.programs import missing

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. A test that needs it is skipped without it, and fails in CI.

    Playwright's driver needs libatomic, which a minimal Debian does not have.
    """
    if CHROMIUM is None or find_library("atomic") is None:
        missing("Chromium", "apt-get install chromium libatomic1")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


class Opened:
    """A page of ours when its charts are drawn: what it asked for, what went wrong in it."""

    def __init__(self, browser: Browser, path: Path, **settings: Any) -> None:
        context = browser.new_context(offline=True, **settings)
        self.page: Page = context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn=true]", timeout=60_000)

    @property
    def requests(self) -> list[str]:
        """What it asked for besides itself and what it carries."""
        return [url for url in self.asked if url != self.page.url and not url.startswith("data:")]
