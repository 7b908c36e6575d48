"""Choosing a backbone: timm's published tables of accuracy and speed, joined and filtered.

timm's repository holds the ImageNet accuracy of every set of weights, and the speed of every
architecture; `fetch` brings both at one commit. The tables name models differently: an accuracy
belongs to weights (``caformer_s36.sail_in22k_ft_in1k_384``), a speed to an architecture
(``caformer_s36``) at an image size. Parameters are in millions, with thousands separators.
"""

import re
from collections.abc import Collection
from pathlib import Path

import platformdirs
import polars as pl
import pooch
import requests

from capetown.errors import CapetownError, one_line

RESULTS = "https://raw.githubusercontent.com/huggingface/pytorch-image-models/{}/results/{}"
COMMIT = "90cae8c5ab83d2d7e23b1fb2bab1559bfdcbc7e9"
ACCURACY = "results-imagenet.csv"
# Images a second on an RTX 4090, in half precision: the newest of timm's tables of its kind.
SPEED = "benchmark-infer-amp-nchw-pt291-cu128-4090.csv"
SHA256 = {
    ACCURACY: "30972bf7c7ab451bbd4480ec6116b13d0a84441c57bbc946896fd312264acfcd",
    SPEED: "7ef180f30bfcf3271aed993ddff2114c88a83b58e6f7e56acbd76e702e6f3136",
}


def fetch(name: str) -> Path:
    """One of timm's tables, from the user's cache or, once, from timm's repository.

    Raises:
        CapetownError: if it is not cached and cannot be had, or is not what it should be.
    """
    url = RESULTS.format(COMMIT, name)
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{SHA256[name]}",
                fname=name,
                path=platformdirs.user_cache_path("capetown") / "timm-results" / COMMIT[:12],
            )
        )
    except (OSError, ValueError, requests.RequestException) as error:
        raise CapetownError(
            f"{url}: cannot be fetched ({one_line(error)}); try again with a network, or fetch the "
            "file elsewhere and name it with --accuracy or --speed."
        ) from error


def read_catalogue(accuracy: Path, speed: Path, untrainable: Collection[str] = ()) -> pl.DataFrame:
    """Both tables joined.

    Args:
        accuracy: timm's table of ImageNet results.
        speed: timm's table of inference speed.
        untrainable: architectures to leave out, as are those of timm's own tests.

    Returns:
        A row for each set of weights and image size: model, image_size (pixels), top1 (per cent),
        parameters (millions) and images_per_second, null where timm has measured none; the most
        accurate first.

    Raises:
        CapetownError: if a file cannot be read, or is not such a table.
    """
    weights = _read(accuracy, "img_size", "top1", "param_count").select(
        "model",
        pl.col("img_size").cast(pl.Int64).alias("image_size"),
        "top1",
        pl.col("param_count").alias("parameters"),
        _architecture("model").alias("architecture"),
    )
    speeds = _read(speed, "infer_img_size", "infer_samples_per_sec").select(
        _architecture("model").alias("architecture"),
        pl.col("infer_img_size").cast(pl.Int64).alias("image_size"),
        pl.col("infer_samples_per_sec").alias("images_per_second"),
    )
    fastest = speeds.group_by("architecture", "image_size").max()
    joined = weights.join(fastest, on=["architecture", "image_size"], how="left")
    for_tests = pl.col("architecture").str.starts_with("test_")  # timm's own, of 0.3 million
    joined = joined.filter(~pl.col("architecture").is_in(list(untrainable)) & ~for_tests)
    return joined.drop("architecture").sort("top1", "model", descending=[True, False])


def choose(
    catalogue: pl.DataFrame,
    *,
    max_parameters: float | None = None,
    min_top1: float | None = None,
    image_size: int | None = None,
    family: str | None = None,
) -> pl.DataFrame:
    """The rows that pass every filter that is given, and whether none is better.

    Args:
        catalogue: as `read_catalogue` gives it.
        max_parameters: millions.
        min_top1: per cent.
        image_size: pixels.
        family: the start of the architecture's name, up to a digit or underscore: ``convnext`` is
            neither ``convnextv2`` nor ``tf_efficientnet``.

    Returns:
        The rows, with ``small`` and ``fast``: whether no other one that passes is at least as
        accurate and has fewer parameters, or is faster (the Pareto fronts).

    Raises:
        CapetownError: if none passes.
    """
    conditions = [pl.lit(value=True)]
    if max_parameters is not None:
        conditions.append(pl.col("parameters") <= max_parameters)
    if min_top1 is not None:
        conditions.append(pl.col("top1") >= min_top1)
    if image_size is not None:
        conditions.append(pl.col("image_size") == image_size)
    if family is not None:
        conditions.append(pl.col("model").str.contains(rf"^{re.escape(family)}([_.0-9]|$)"))
    rows = catalogue.filter(conditions)
    if rows.is_empty():
        raise CapetownError("no backbone passes these filters; loosen one of them.")
    return rows.with_columns(
        small=_front(rows, "parameters", descending=False),
        fast=_front(rows, "images_per_second", descending=True),
    )


def params_entry(model: str, image_size: int) -> str:
    """An entry for `backbones` in the params file.

    The batch size and learning rate are those to start from: 16 GB of GPU memory hold that many
    images of most backbones of up to 100 M parameters.
    """
    key = f"{model.split('.')[0].removesuffix(f'_{image_size}')}_{image_size}"
    batch_size = 64 if image_size <= 256 else 24
    return (
        f"  {key}:\n"
        f"    architecture: {model}\n"
        f"    image_size: {image_size}\n"
        f"    batch_size: {batch_size}\n"
        "    learning_rate: 0.0001\n"
    )


def _read(path: Path, *numbers: str) -> pl.DataFrame:
    """A table of timm's: ``model`` as text, and columns of numbers above 0."""
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CapetownError(f"{path}: cannot be read ({one_line(error)}).") from error
    missing = [name for name in ("model", *numbers) if name not in table.columns]
    if missing:
        raise CapetownError(
            f"{path}: no column {missing[0]!r}; it must be one of timm's tables, as "
            f"{ACCURACY} for --accuracy or {SPEED} for --speed."
        )
    for name in numbers:
        number = pl.col(name).str.replace_all(",", "").cast(pl.Float64, strict=False)
        good = (number.is_finite() & (number > 0) & pl.col("model").is_not_null()).fill_null(
            value=False
        )
        for row in table.filter(~good).head(1).iter_rows(named=True):
            raise CapetownError(
                f"{path}: {name} of model {row['model'] or ''!r} is {row[name] or ''!r}, not a "
                "number above 0; mend or remove the row."
            )
        table = table.with_columns(number)
    return table


def _architecture(name: str) -> pl.Expr:
    return pl.col(name).str.split(".").list.first()


def _front(rows: pl.DataFrame, by: str, *, descending: bool) -> pl.Series:
    """True for rows more accurate than all that are better by another column, or as good."""
    sign = -1 if descending else 1
    cost = pl.col(by) * sign
    ranked = rows.with_row_index("row").sort(
        cost, "top1", descending=[False, True], nulls_last=True
    )
    best_before = pl.col("top1").cum_max().shift(1)
    on_front = pl.col(by).is_not_null() & (best_before.is_null() | (pl.col("top1") > best_before))
    marked: pl.Series = ranked.with_columns(on_front.alias("front")).sort("row")["front"]
    return marked
