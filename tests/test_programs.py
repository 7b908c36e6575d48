"""A missing program is named at the end of the run, with its install command."""

import pytest

from tests.programs import missing, summary


def test_a_missing_program_skips_the_test_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^needs Chromium: apt-get install chromium$"):
        missing("Chromium", "apt-get install chromium")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"^needs Chromium: apt-get install chromium$"):
        missing("Chromium", "apt-get install chromium")


def test_the_summary_counts_the_tests_of_each_program_and_nothing_else() -> None:
    reasons = ["Skipped: needs B: get b", "Skipped: no GPU", *["Skipped: needs A: get a"] * 2]
    assert summary(reasons) == [
        "2 skipped tests need A: get a",
        "1 skipped test needs B: get b",
    ]
