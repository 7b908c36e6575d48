"""An error keeps its parts, also across processes."""

import pickle

from capetown.errors import CapetownError


def test_the_parts_make_one_line_and_reach_other_processes() -> None:
    error = CapetownError("no such file", where="raw/sr.csv.gz", fix="run `dvc repro download`")
    assert str(error) == "raw/sr.csv.gz: no such file; run `dvc repro download`"
    assert str(CapetownError("interrupted")) == "interrupted"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.what, copy.where, copy.fix) == (error.what, error.where, error.fix)
