"""The results of the other stages, and the statistics that the report derives from them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import geopandas as gpd
import pandas as pd
import polars as pl

from capetown.pools.metrics import METRICS, MIN_GROUPS_FOR_CI
from capetown.report.formatting import group_names, listed
from capetown.requests.counts import MOST_COMMON
from capetown.requests.reader import FAILED


@dataclass(frozen=True)
class Facts:
    """What the report shows. Fields of requests, or of tiles, are empty without such data."""

    transform: Mapping[str, Any]  # metrics/transform.json, with metrics/quality.json as `quality`
    split: Mapping[str, Any]  # metrics/split.json
    evaluate: Mapping[str, Any]  # metrics/evaluate.json and metrics/judgement.json
    model: Mapping[str, Any]  # models/model.json
    hexagons: gpd.GeoDataFrame | None  # hexes/counts.parquet
    tables: Mapping[str, pl.DataFrame]  # those of request_statistics.request_tables
    rejects: pd.DataFrame  # rows of hexes/rejects.parquet that did not join
    history: pd.DataFrame  # metrics/history.csv
    predictions: pd.DataFrame  # metrics/predictions.csv
    sheets: pd.DataFrame  # metrics/sheets.csv
    curves: Mapping[str, pd.DataFrame]  # those of metrics/plots/, by name
    samples: pd.DataFrame  # evaluation/samples.csv
    mistakes: pd.DataFrame  # evaluation/mistakes.csv
    evaluation: Path  # the folder of their pictures
    tiles: pd.DataFrame  # splits/tiles.parquet without outlines: the located tiles
    inventory: pd.DataFrame  # raw/requests/inventory.csv and raw/images/inventory.csv
    fingerprint: str  # sha256 of these files
    settings: Mapping[str, Mapping[str, Any]]  # the sections of the params that are shown
    pools_by_hexagon: gpd.GeoDataFrame | None = None  # maps/pools.parquet
    is_export: bool = False  # made by `capetown join`, beside the pipeline
    exceeded: Collection[str] = ()  # thresholds of `transform`; the pipeline stops instead

    @property
    def has_requests(self) -> bool:
        """True if there were requests to join."""
        return bool(self.transform)

    @property
    def has_pools(self) -> bool:
        """True if a model was trained and evaluated."""
        return bool(self.evaluate)

    @property
    def is_sample(self) -> bool:
        """True if the data is the embedded sample."""
        return PurePosixPath(self.settings["download"]["source"]) == PurePosixPath("data")


def join_statistics(facts: Facts) -> dict[str, Any]:
    """Statistics of the join; empty without requests.

    `located` requests have coordinates, and `failed` of them did not join; the stage allows
    `allowed_failures`. `requests_per_hexagon` is a mean over hexagons with any.
    `busiest_hexagons` are rows.
    """
    if not facts.has_requests:
        return {}
    assert facts.hexagons is not None
    counts = facts.transform
    located = counts["requests"] - counts["missing_coordinates"]
    # Rounded first: 0.07 * 100 is a little more than 7.
    allowed = math.floor(round(facts.settings["transform"]["error_threshold"] * located, 6))
    busiest = facts.hexagons.sort_values(["requests", "index"], ascending=[False, True])
    return {
        "located": located,
        "failed": sum(counts[status] for status in FAILED),
        "allowed_failures": allowed,
        "requests_per_hexagon": round(
            counts["joined"] / max(1, counts["quality"]["hexagons_with_requests"])
        ),
        "busiest_hexagons": busiest[["index", "requests"]]
        .assign(name=busiest[MOST_COMMON])
        .head(5)
        .to_dict("records"),
    }


def pool_statistics(facts: Facts) -> dict[str, Any]:
    """Statistics of the model's training and test; empty without a model."""
    if not facts.has_pools:
        return {}
    test, strategy = facts.evaluate, facts.settings["split"]["strategy"]
    source = facts.split["groups_source"]
    group, groups = group_names(source, by_sheet=strategy == "sheet")
    is_pool = facts.predictions["label"] == "yes"
    is_called = facts.predictions["probability"] >= test["threshold"]
    wrong = int((is_pool != is_called).sum())
    by_quality = facts.history.sort_values(
        ["average_precision", "valid_loss"], ascending=[False, True]
    )
    sheets = facts.sheets.assign(
        wrong=facts.sheets["false_positives"] + facts.sheets["false_negatives"]
    ).sort_values(["wrong", "sheet"], ascending=[False, True])
    return {
        "counts": {
            "true_positives": int((is_pool & is_called).sum()),
            "false_negatives": int((is_pool & ~is_called).sum()),
            "false_positives": int((~is_pool & is_called).sum()),
            "true_negatives": int((~is_pool & ~is_called).sum()),
        },
        "wrong": wrong,
        # At least one if there is any.
        "wrong_in_100": max(round(100 * wrong / test["n"]), min(wrong, 1)),
        "share_with_pool": test["positives"] / test["n"],
        # Groups stay in one fold, and intervals resample them.
        "one_group": group,
        "group_name": groups,
        "sheet_name": "map sheet" if source == "names" else group,
        "keeps_groups": strategy != "random" and source != "none",
        "is_grouped": source != "none",
        "group_count": sum(int(fold["groups"]) for fold in facts.split["folds"].values()),
        "has_intervals": test["groups"] >= MIN_GROUPS_FOR_CI,
        "is_better_than_guessing": _is_above_half(test["intervals"]["balanced_accuracy"]),
        "ranks_better_than_guessing": _is_above_half(test["intervals"]["roc_auc"]),
        "calibration_got_worse": test["calibration"]["ece_after"]
        > test["calibration"]["ece_before"],
        "metrics_at_threshold": listed([m.name for m in METRICS.values() if m.at_threshold]),
        "hardest_sheets": sheets[sheets["wrong"] > 0].head(5).to_dict("records"),
        # Counted from 1.
        "best_epoch": int(by_quality["epoch"].iloc[0]) + 1,
        "epochs_by_phase": facts.history.groupby("phase", sort=False).size().to_dict(),
        "augmentation": _augmentation(facts.settings["train"]["augment"]),
    }


def short_threshold(facts: Facts) -> float:
    """The threshold with the fewest decimals, at least two, that leaves all calls the same."""
    exact: float = facts.evaluate["threshold"]
    given = facts.predictions["probability"]
    called = given >= exact
    shorter = (round(exact, decimals) for decimals in range(2, 17))
    return next((short for short in shorter if called.equals(given >= short)), exact)


def _is_above_half(interval: list[float | None] | None) -> bool:
    return bool(interval and interval[0] is not None and interval[0] > 0.5)


def _augmentation(settings: Mapping[str, Any]) -> str:
    """A sentence on how training changed its tiles."""
    tints = [name for name in ("brightness", "contrast", "saturation") if settings[name]]
    changes = [
        *(["mirrored and turned by quarters"] if settings["flips"] else []),
        *(["zoomed"] if settings["scale"] else []),
        *([f"changed in {listed(tints)}"] if tints else []),
    ]
    how = f"{listed(changes)} at random each time" if changes else "shown as they are"
    return f"Tiles were {how}."
