"""An error keeps its parts, also across processes."""

import pickle

import pytest

from capetown.errors import CapetownError, one_line


def test_the_parts_make_one_line_and_reach_other_processes() -> None:
    error = CapetownError(
        "no such file", where="raw/requests/sr.csv.gz", fix="run `dvc repro download_requests`"
    )
    assert str(error) == "raw/requests/sr.csv.gz: no such file; run `dvc repro download_requests`"
    assert str(CapetownError("interrupted")) == "interrupted"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.what, copy.where, copy.fix) == (error.what, error.where, error.fix)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such\nband"), "no such band"),
        (TimeoutError(), "TimeoutError"),
        (OSError(5), "OSError 5"),
        (IndexError(0), "a part is missing (IndexError 0)"),
        (KeyError("Software"), "a part is missing (KeyError 'Software')"),
    ],
)
def test_an_error_of_a_library_is_one_line_with_words(error: Exception, line: str) -> None:
    assert one_line(error) == line
