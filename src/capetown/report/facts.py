"""The inputs of the report, and the numbers that its sentences need."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import geopandas as gpd
import pandas as pd

from capetown.pools.metrics import METRICS, MIN_GROUPS_FOR_CI
from capetown.report.formatting import listed
from capetown.report.pool_map import PoolsByHexagon
from capetown.report.request_facts import Requests

DIRECTORATE = "directorate: "
STATUSES = {
    "joined": "lie in one of the City's hexagons",
    "missing_coordinates": "came without coordinates, so there was nothing to join",
    "invalid_coordinates": "have coordinates that are no place on Earth",
    "outside_city": "lie in a cell that is not one of the City's",
}
FAILED = ("invalid_coordinates", "outside_city")


@dataclass(frozen=True)
class Facts:
    """Everything the report shows.

    What comes of the requests, or of the tiles, is empty where they were not fetched.

    Attributes:
        transform: `metrics/transform.json`, with `metrics/quality.json` as its ``quality``.
        split: `metrics/split.json`.
        evaluate: `metrics/evaluate.json` and `metrics/judgement.json`.
        card: `models/model.json`.
        hexagons: `hexes/counts.parquet`; None without requests.
        requests: what `hexes/requests.parquet` tells of the requests; None without them.
        rejects: those of `hexes/rejects.parquet` that are `not_joined`.
        history: `metrics/history.csv`.
        predictions: `metrics/predictions.csv`.
        sheets: `metrics/sheets.csv`.
        curves: the tables of `metrics/plots/`, by name.
        samples: `evaluation/samples.csv`.
        mistakes: `evaluation/mistakes.csv`.
        evaluation: the folder of their pictures.
        inventory: `raw/inventory.csv`.
        fingerprint: sha256 of that file: which data this is.
        settings: sections of the params, as they are to be shown.
        predicted: `maps/pools.parquet`; None without it.
    """

    transform: Mapping[str, Any]
    split: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    card: Mapping[str, Any]
    hexagons: gpd.GeoDataFrame | None
    requests: Requests | None
    rejects: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    sheets: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]
    samples: pd.DataFrame
    mistakes: pd.DataFrame
    evaluation: Path
    inventory: pd.DataFrame
    fingerprint: str
    settings: Mapping[str, Mapping[str, Any]]
    predicted: PoolsByHexagon | None = None

    @property
    def has_requests(self) -> bool:
        """True if there were requests to join."""
        return bool(self.transform)

    @property
    def has_pools(self) -> bool:
        """True if there were tiles to learn from."""
        return bool(self.evaluate)

    @property
    def located(self) -> int:
        """Requests with coordinates, good or bad."""
        return int(self.transform["requests"] - self.transform["missing_coordinates"])

    @property
    def failed(self) -> int:
        """Requests with coordinates that did not join."""
        return int(self.transform["invalid_coordinates"] + self.transform["outside_city"])

    @property
    def is_sample(self) -> bool:
        """True if the data is the embedded miniature."""
        return PurePosixPath(self.settings["download"]["source"]) == PurePosixPath("data")

    @property
    def allowed_failures(self) -> int:
        """Failed joins with which the stage still goes on."""
        threshold: float = self.settings["transform"]["error_threshold"]
        return math.floor(round(threshold * self.located, 6))

    @property
    def requests_a_hexagon(self) -> int:
        """Requests on average in a hexagon that has any."""
        hexagons: int = self.transform["quality"]["hexagons_with_requests"]
        return round(int(self.transform["joined"]) / max(1, hexagons))

    @property
    def neighbours_stay_together(self) -> bool:
        """True if no block or no map sheet is in two folds."""
        return bool(self.settings["split"]["strategy"] != "random")

    @property
    def groups(self) -> str:
        """The units that stay together, and that intervals resample."""
        by_sheet = self.settings["split"]["strategy"] == "sheet"
        return "map sheets" if by_sheet else "blocks of map sheets"

    @property
    def group_count(self) -> int:
        """Groups of all folds; only right if `neighbours_stay_together`."""
        return sum(int(fold["groups"]) for fold in self.split["folds"].values())

    @property
    def has_intervals(self) -> bool:
        """True if the test's groups are enough for intervals to mean something."""
        return bool(self.evaluate["groups"] >= MIN_GROUPS_FOR_CI)

    @property
    def is_better_than_guessing(self) -> bool:
        """True if its calls are: the interval of the balanced accuracy lies above one half."""
        return self._is_above_half("balanced_accuracy")

    @property
    def orders_better_than_guessing(self) -> bool:
        """True if the order of its probabilities is, whatever the threshold: likewise, ROC AUC."""
        return self._is_above_half("roc_auc")

    def _is_above_half(self, metric: str) -> bool:
        bounds = self.evaluate["intervals"][metric]
        return bool(bounds and bounds[0] is not None and bounds[0] > 0.5)

    @property
    def wrong(self) -> int:
        """Wrong calls on the test's tiles."""
        return self.counts["false_positives"] + self.counts["false_negatives"]

    @property
    def wrong_of_hundred(self) -> int:
        """Wrong calls among a hundred of the test's tiles, at least one if there is any."""
        tiles: int = self.evaluate["n"]
        return max(round(100 * self.wrong / tiles), min(self.wrong, 1))

    @property
    def augmentation(self) -> str:
        """A sentence on how training changed its tiles."""
        settings = self.settings["train"]["augment"]
        tints = [name for name in ("brightness", "contrast", "saturation") if settings[name]]
        changes = [
            *(["mirrored and turned by quarters"] if settings["flips"] else []),
            *(["zoomed"] if settings["scale"] else []),
            *([f"changed in {listed(tints)}"] if tints else []),
        ]
        how = f"{listed(changes)} at random each time" if changes else "shown as they are"
        return f"Tiles were {how}."

    @property
    def at_threshold(self) -> str:
        """The metrics that depend on a threshold, as a list in a sentence."""
        return listed([metric.name for metric in METRICS.values() if metric.at_threshold])

    @property
    def calibration_got_worse(self) -> bool:
        """True if the temperature of the validation fold made the test's probabilities worse."""
        found = self.evaluate["calibration"]
        return bool(found["ece_after"] > found["ece_before"])

    @property
    def share_with_pool(self) -> float:
        """The share of the test's tiles that have a pool."""
        return float(self.evaluate["positives"] / self.evaluate["n"])

    @property
    def busy(self) -> pd.DataFrame:
        """The hexagons with most requests: index, suburb, requests."""
        assert self.hexagons is not None
        ranked = self.hexagons.sort_values(["requests", "index"], ascending=[False, True])
        return pd.DataFrame(ranked[["index", "suburb", "requests"]].head(5))

    @property
    def counts(self) -> dict[str, int]:
        """The model's calls on the test tiles: true and false positives and negatives."""
        yes = self.predictions["label"] == "yes"
        called = self.predictions["probability"] >= self.evaluate["threshold"]
        return {
            "true_positives": int((yes & called).sum()),
            "false_negatives": int((yes & ~called).sum()),
            "false_positives": int((~yes & called).sum()),
            "true_negatives": int((~yes & ~called).sum()),
        }

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept, counted from 1."""
        best = self.history.sort_values(
            ["average_precision", "valid_loss"], ascending=[False, True]
        )
        return int(best["epoch"].iloc[0]) + 1

    @property
    def phases(self) -> dict[str, int]:
        """Epochs of each phase, in order."""
        sizes = self.history.groupby("phase", sort=False).size()
        return {str(phase): int(size) for phase, size in sizes.items()}

    @property
    def hardest_sheets(self) -> pd.DataFrame:
        """The test sheets with most wrong calls."""
        wrong = self.sheets["false_positives"] + self.sheets["false_negatives"]
        table = self.sheets.assign(wrong=wrong)
        ranked = table.sort_values(["wrong", "sheet"], ascending=[False, True])
        return ranked[ranked["wrong"] > 0].head(5)


def not_joined(rejects: pd.DataFrame) -> pd.DataFrame:
    """The rejects that did not join: others did, and have a value that cannot be read."""
    return rejects[rejects["join_status"].isin(FAILED)]
