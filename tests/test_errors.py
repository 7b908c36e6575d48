"""An error keeps its parts, also across processes."""

import pickle

from capetown.errors import CapetownError


def test_the_parts_make_one_line() -> None:
    error = CapetownError("no such file", where="raw/sr.csv.gz", fix="run `dvc repro download`")
    assert str(error) == "raw/sr.csv.gz: no such file; run `dvc repro download`"
    assert str(CapetownError("interrupted")) == "interrupted"


def test_another_process_raises_it_with_its_parts() -> None:
    error = pickle.loads(pickle.dumps(CapetownError("broken", where="a.tif", fix="copy it again")))
    assert (error.what, error.where, error.fix) == ("broken", "a.tif", "copy it again")
