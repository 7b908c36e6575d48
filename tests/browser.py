"""Pages from disk in headless Chromium without a network, and their errors."""

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
    """Start Chromium. Without it, or the library that its driver needs, skip, or fail in CI."""
    if CHROMIUM is None or find_library("atomic") is None:
        missing("Chromium", "apt-get install chromium libatomic1")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


class Opened:
    """A page whose charts are drawn, with its errors and requests."""

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
        """URLs that the page requested, except itself and embedded data."""
        return [url for url in self.asked if url != self.page.url and not url.startswith("data:")]
