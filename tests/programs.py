"""Programs that some tests need and pip does not install."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

NEEDS = "needs "


def missing(program: str, install: str) -> NoReturn:
    """Skip the test because a program is missing. In CI, fail it."""
    reason = f"{NEEDS}{program}: {install}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def summary(reasons: Iterable[str]) -> list[str]:
    """Return a line per missing program: the skipped tests and the install command."""
    counts = Counter(
        reason.removeprefix("Skipped: ")
        for reason in reasons
        if reason.startswith(f"Skipped: {NEEDS}")
    )
    return [
        f"{count} skipped {'test needs' if count == 1 else 'tests need'} {reason[len(NEEDS) :]}"
        for reason, count in sorted(counts.items())
    ]
