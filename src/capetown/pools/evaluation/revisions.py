"""Results of an experiment, read from its Git revision or its name among DVC's experiments."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import polars as pl
from dvc.api import read
from dvc.utils.serialize import loads_yaml
from ruamel.yaml.error import YAMLError

from capetown.city import CLASSES
from capetown.errors import CapetownError, one_line
from capetown.pools.evaluation.compare import Experiment

AGAIN = "run `dvc repro evaluate` there again"


def read_experiment(revision: str, *, predictions: str, figures: str, params: str) -> Experiment:
    """An experiment's judgement of its test tiles, and what it was run with.

    Args:
        revision: a Git revision, the name of an experiment, or ``workspace``: the files as they
            are.
        predictions: path of the table of predictions, from the repository's root.
        figures: path of the JSON with the model's threshold.
        params: path of the params file.

    Raises:
        CapetownError: if there is no such revision, or one of the files is not there or not what
            `evaluate` writes.
    """
    table = _table(_read(predictions, revision), f"{revision}: {predictions}")
    threshold = _threshold(_read(figures, revision), f"{revision}: {figures}")
    settings = _settings(_read(params, revision), f"{revision}: {params}")
    return Experiment(revision, table, threshold, settings)


def _read(path: str, revision: str) -> bytes:
    try:
        data: bytes = read(path, rev=None if revision == "workspace" else revision, mode="rb")
    except Exception as error:  # what DVC and Git raise on what is no commit is their own affair
        raise CapetownError(
            f"{revision}: {path} cannot be read ({one_line(error)}); `dvc exp show` lists the "
            "experiments, `dvc queue status` those that wait or failed; each must have finished "
            "`evaluate`."
        ) from error
    return data


def _table(data: bytes, where: str) -> pd.DataFrame:
    """Path, label and probability, of tiles that are there once."""
    try:
        table = pl.read_csv(data, infer_schema=False).select("path", "label", "probability")
    except pl.exceptions.PolarsError as error:
        raise CapetownError(
            f"{where}: not a table of path, label and probability; {AGAIN}."
        ) from error
    number = pl.col("probability").cast(pl.Float64, strict=False)
    rules = {
        "path": (pl.col("path").is_not_null() & pl.col("path").is_unique(), "a path of its own"),
        "label": (pl.col("label").is_in(CLASSES), " or ".join(CLASSES)),
        "probability": (number.is_between(0, 1), "a number from 0 to 1"),
    }
    for column, (is_good, wanted) in rules.items():
        bad = table.with_row_index("row", offset=1).filter(~is_good.fill_null(value=False))
        for row in bad.head(1).iter_rows(named=True):
            raise CapetownError(
                f"{where}: row {row['row']}: {column} {row[column] or ''!r} is not {wanted}; "
                f"{AGAIN}."
            )
    if table.is_empty():
        raise CapetownError(f"{where}: no tile in it; {AGAIN}.")
    return table.with_columns(number).to_pandas()


def _threshold(data: bytes, where: str) -> float:
    try:
        threshold = float(json.loads(data)["threshold"])
    except (ValueError, TypeError, KeyError):
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise CapetownError(f"{where}: no `threshold` from 0 to 1 in it; {AGAIN}.")
    return threshold


def _settings(data: bytes, where: str) -> dict[str, object]:
    """Params by dotted keys; of the backbones that of the model alone, as ``backbone``."""
    try:
        values = loads_yaml(data.decode("utf-8"))
        values["backbone"] = values.pop("backbones")[values["model"]]
    except (YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise CapetownError(f"{where}: not this project's params ({one_line(error)}).") from error
    return dict(_flat(values))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
