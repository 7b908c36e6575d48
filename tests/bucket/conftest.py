"""Retries that do not wait."""

import pytest


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capetown.bucket.retrying.FIRST_WAIT", 0.01)
    monkeypatch.setattr("capetown.bucket.retrying.LONGEST_WAIT", 0.05)
