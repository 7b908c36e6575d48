"""What an experiment left in its revision: a Git one, or one of DVC's experiments by name."""

import io
import json

import pandas as pd
from dvc.api import read
from dvc.exceptions import DvcException
from dvc.scm import SCMError

from capetown.comparing import Experiment
from capetown.errors import CapetownError


def read_experiment(revision: str, *, predictions: str, figures: str) -> Experiment:
    """An experiment's judgement of its test tiles.

    Args:
        revision: a Git revision, the name of an experiment, or ``workspace``: the files as they
            are.
        predictions: path of the table of predictions, from the repository's root.
        figures: path of the JSON with the model's threshold.

    Raises:
        CapetownError: if there is no such revision, or it lacks one of the files.
    """
    table = pd.read_csv(io.StringIO(_read(predictions, revision)))
    return Experiment(revision, table, float(json.loads(_read(figures, revision))["threshold"]))


def _read(path: str, revision: str) -> str:
    try:
        text: str = read(path, rev=None if revision == "workspace" else revision, encoding="utf-8")
    except (DvcException, SCMError, OSError) as error:
        said = " ".join(str(error).split())
        raise CapetownError(
            f"{revision}: {path} cannot be read ({said}); `dvc exp show` lists the experiments, "
            "and each must have run `evaluate`."
        ) from error
    return text
