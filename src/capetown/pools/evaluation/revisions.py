"""Read an experiment's results from a Git revision or a DVC experiment."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import polars as pl
import polars.selectors as cs
from dvc.api import read
from dvc.scm import SCM
from dvc.utils.serialize import loads_yaml
from ruamel.yaml.error import YAMLError

from capetown.city import CLASSES
from capetown.errors import CapetownError, one_line
from capetown.params import GroupsSource
from capetown.pools.dataset.listing import match_name
from capetown.pools.evaluation.compare import Experiment

AGAIN = "run `dvc repro evaluate` there"


def read_experiment(revision: str, *, predictions: str, metrics: str, params: str) -> Experiment:
    """An experiment's predictions for its test tiles, its threshold and its params.

    Args:
        revision: a Git revision, an experiment's name, or ``workspace`` for the current files.
        predictions: path of the predictions, from the working directory.
        metrics: path of the JSON file with the model's threshold.
        params: path of the params file.

    Raises:
        CapetownError: the revision or a file is missing or invalid.
    """
    table = _table(_read(predictions, revision), f"{revision}: {predictions}")
    threshold, source = _metrics(_read(metrics, revision), f"{revision}: {metrics}")
    settings = _settings(_read(params, revision), f"{revision}: {params}")
    if source not in get_args(GroupsSource):  # an earlier version's, which knew only names
        source = "names" if table["path"].map(match_name).notna().all() else "none"
    return Experiment(revision, table, threshold, settings, source)


def _read(path: str, revision: str) -> bytes:
    try:
        if revision == "workspace":
            data: bytes = read(path, mode="rb")
        else:  # DVC takes a path in a revision from the root of Git, which may be above ours
            folder = Path.cwd().relative_to(SCM(".").root_dir)
            data = read((folder / path).as_posix(), rev=revision, mode="rb")
    except Exception as error:  # DVC and Git raise many kinds for an unknown revision
        raise CapetownError(
            f"unreadable ({one_line(error)})", where=f"{revision}: {path}",
            fix="name an experiment of `dvc exp show` that finished `evaluate`",
        ) from error  # fmt: skip
    return data


def _table(data: bytes, where: str) -> pd.DataFrame:
    """Path, label, probability and, if it is known, group, each tile once."""
    try:
        table = pl.read_csv(data, infer_schema=False).select(
            "path", "label", "probability", cs.by_name("group", require_all=False)
        )
    except pl.exceptions.PolarsError as error:
        what = "not a table of path, label and probability"
        raise CapetownError(what, where=where, fix=AGAIN) from error
    number = pl.col("probability").cast(pl.Float64, strict=False)
    rules = {
        "path": (pl.col("path").is_not_null() & pl.col("path").is_unique(), "a unique path"),
        "label": (pl.col("label").is_in(CLASSES), " or ".join(CLASSES)),
        "probability": (number.is_between(0, 1), "a number from 0 to 1"),
    }
    for column, (is_good, wanted) in rules.items():
        bad = table.with_row_index("row", offset=1).filter(~is_good.fill_null(value=False))
        for row in bad.head(1).iter_rows(named=True):
            raise CapetownError(
                f"{column} {row[column] or ''!r} is not {wanted}",
                where=f"{where}: row {row['row']}", fix=AGAIN,
            )  # fmt: skip
    if table.is_empty():
        raise CapetownError("no tile", where=where, fix=AGAIN)
    return table.with_columns(number).to_pandas()


def _metrics(data: bytes, where: str) -> tuple[float, Any]:
    """The threshold, and the source of groups; None in earlier versions."""
    source = None
    try:
        values = json.loads(data)
        threshold, source = float(values["threshold"]), values.get("groups_source")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise CapetownError("no `threshold` from 0 to 1", where=where, fix=AGAIN)
    return threshold, source


def _settings(data: bytes, where: str) -> dict[str, object]:
    """Params by dotted keys, with only the model's backbone, as ``backbone``."""
    try:
        values = loads_yaml(data.decode("utf-8"))
        values["backbone"] = values.pop("backbones")[values["model"]]
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CapetownError(f"invalid params ({one_line(error)})", where=where) from error
    return dict(_flat(values))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
