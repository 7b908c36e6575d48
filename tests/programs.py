"""Programs that some tests need and that pip does not install."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

NEEDS = "needs "


def missing(program: str, install: str) -> NoReturn:
    """Skip the test because a program is missing; in CI, where all are installed, fail it."""
    reason = f"{NEEDS}{program}: {install}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def summary(reasons: Iterable[str]) -> list[str]:
    """One line per missing program: how many tests were skipped, and how to install it."""
    counts = Counter(
        reason.removeprefix("Skipped: ")
        for reason in reasons
        if reason.startswith(f"Skipped: {NEEDS}")
    )
    return [
        f"{count} skipped {'test needs' if count == 1 else 'tests need'} {reason[len(NEEDS) :]}"
        for reason, count in sorted(counts.items())
    ]
