"""A small city and a small classifier for the report, with names that contain markup."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import geopandas as gpd
import h3
import pandas as pd
import polars as pl
import shapely
from PIL import Image

from capetown.pools.metrics import METRICS
from capetown.report.facts import Facts
from capetown.report.request_statistics import request_tables
from tests.tables import INSIDE_CELL

SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = '"><img src=x onerror="window.hacked=1">.tif'
# Names of pictures in `evaluation/`.
TILE, HEAT = "yes-a b (2)](http:x) #1.png", 'yes-"><img src=x onerror="window.hacked=1">.png'
FOLDS = ("train", "valid", "test")
# It ends an image of Markdown, starts another one, and has a blank line.
PIPE = "a|b](http://e.f/1.png)![*c* [d](http://e.f) `g` ~~h~~ <i>\n\n![i](http://e.f/2.png)![](http://e.f/)"

CELLS = sorted(h3.grid_disk(INSIDE_CELL, 3))
START = datetime(2020, 1, 1, 12, tzinfo=ZoneInfo("Africa/Johannesburg"))


def tables(days: int = 100) -> dict[str, pl.DataFrame]:
    """Tables of seven requests per day in the hexagons' order, one without coordinates."""
    rows = [
        {
            "creation_timestamp": START + timedelta(days=day),
            "completion_timestamp": START + timedelta(days=day + 2 * n) if n else None,
            "directorate": SCRIPT if n < 5 else PIPE,
            "code": SCRIPT if n % 2 else "BURST PIPE",
            "official_suburb": SCRIPT if n else PIPE,
            "latitude": -33.8 if n < 6 else None,
            "longitude": 18.5 + n / 1000 if n < 6 else None,
            "h3_level8_index": CELLS[(7 * day + n) % len(CELLS)] if n < 6 else "0",
            "join_status": "joined" if n < 6 else "missing_coordinates",
        }
        for day in range(days)
        for n in range(7)
    ]
    return request_tables(pl.LazyFrame(rows, infer_schema_length=None))


def facts(folder: Path) -> Facts:
    """The facts of the city and of the classifier."""
    count, joined = len(CELLS), sum(range(len(CELLS)))
    for name in (TILE, HEAT):
        Image.new("RGB", (32, 32), "teal").save(folder / name)
    hexagons = gpd.GeoDataFrame(
        {
            "index": CELLS,
            "requests": range(count),
            "directorate: (none)": [n % 3 for n in range(count)],
            f"directorate: {SCRIPT}": [n - n % 3 for n in range(count)],
            "median_days_to_completion": [None, *([2.5] * (count - 1))],
            "suburb": [None, *([SCRIPT] * (count - 1))],
        },
        geometry=[shapely.Polygon([p[::-1] for p in h3.cell_to_boundary(c)]) for c in CELLS],
        crs="OGC:CRS84",
    )
    pools = hexagons[["index", "geometry"]].assign(
        tiles=4, unread=0, tiles_with_pool_expected=2.25, tiles_with_pool_low=1,
        tiles_with_pool_high=4, called=2,
    )  # fmt: skip
    scores = dict.fromkeys(METRICS, 0.5) | {
        "balanced_accuracy": 0.9, "average_precision": 0.98, "precision": 0.96, "recall": 0.88,
        "roc_auc": 0.97,
    }  # fmt: skip
    curves: dict[str, dict[str, list[float]]] = {
        "roc": {"false_positive_rate": [0.0, 0.0, 1.0], "true_positive_rate": [0.0, 1.0, 1.0]},
        "precision_recall": {"recall": [1.0, 0.5], "precision": [0.6, 1.0]},
        "calibration": {
            "mean_probability": [0.2, 0.8],
            "share_of_yes": [0.1, 0.9],
            "tiles": [20] * 2,
        },
    }
    return Facts(
        transform={
            "requests": joined + 12, "joined": joined, "missing_coordinates": 10,
            "invalid_coordinates": 1, "outside_city": 1, "failure_rate": 2 / (joined + 2),
            "missing_rate": 10 / (joined + 12),
            "reference": {"compared": joined + 12, "matched": joined + 12, "mismatched": 0},
            "quality": {"hexagons": count, "hexagons_with_requests": count - 1,
                        "completed_before_creation": 3, "created_apart": 0},
        },
        split={
            "tiles": 200, "rejected": 1, "duplicates": 2, "label_noise": 1,
            "unlike": 0, "unlike_first": "", "groups_source": "names",
            "folds": {name: {"yes": 60, "no": 40, "sheets": 9, "groups": 9} for name in FOLDS},
        },
        evaluate={
            **scores, "threshold": 0.5, "n": 40, "positives": 25, "sheets": 9, "groups": 9,
            "valid_for": "tiles between those it was trained on", "unlike": 2,
            "intervals": {name: [value - 0.05, value + 0.02] for name, value in scores.items()},
            "at_half": scores, "baseline": dict.fromkeys(scores, 0.5),
            "calibration": {"temperature": 1.2, "ece_before": 0.1, "ece_after": 0.05},
        },
        model={
            "architecture": "tf_efficientnet_lite0", "image_size": 224, "dataset": "0123456789ab",
            "packages": {"torch": "2.13.0"},
        },
        hexagons=hexagons,
        tables=tables(),
        rejects=pd.DataFrame(
            [("001015950287", SCRIPT, "-34.044257", "18.774378", None, 78.0),
             (PIPE, None, "x", "18.5", "not a number", None)],
            columns=["notification_number", "official_suburb", "latitude", "longitude", "reason",
                     "metres_to_nearest_hexagon"],
        ),
        history=pd.DataFrame(
            {"epoch": [0, 1, 2], "phase": ["head", "full", "full"], "train_loss": [0.7, 0.5, 0.3],
             "valid_loss": [0.7, 0.6, 0.4], "learning_rate": [3e-3, 1e-3, 0]}
        ).assign(**{name: [0.6, 0.7, 0.8] for name in METRICS}),
        predictions=pd.DataFrame(
            {"path": [f"images/swimming-pool/yes/{IMAGE}", *(f"{n}.tif" for n in range(39))],
             "label": ["yes"] * 25 + ["no"] * 15, "probability": [n / 40 for n in range(40)][::-1]}
        ),
        sheets=pd.DataFrame([{"sheet": SCRIPT, "tiles": 40, "false_positives": 2,
                              "false_negatives": 3}]),
        curves={name: pd.DataFrame(columns) for name, columns in curves.items()},
        samples=pd.DataFrame({"path": ["a.tif", "b.tif"], "label": ["yes", "no"], "tile": TILE}),
        mistakes=pd.DataFrame(
            [(f"images/swimming-pool/yes/{IMAGE}", "yes", 0.01, "false_negative", TILE, HEAT),
             ("b.tif", "no", 0.99, "false_positive", TILE, HEAT)],
            columns=["path", "label", "probability", "kind", "tile", "saliency"],
        ),
        tiles=pd.DataFrame(
            [(f"images/swimming-pool/yes/{IMAGE}", "yes", "test", CELLS[0]),
             ("0.tif", "yes", "test", CELLS[1]), ("30.tif", "no", "test", CELLS[1]),
             ("a.tif", "yes", "train", CELLS[1]), ("b.tif", "no", "valid", "8800000001fffff"),
             *((f"{n}.tiff", "yes" if n % 4 else "no", "train", CELLS[20 + n // 3])
               for n in range(45))],
            columns=["path", "label", "fold", "hexagon"],
        ).assign(location_source="name"),
        evaluation=folder,
        inventory=pd.DataFrame({"key": ["sr.csv.gz"], "size": [1_000_000]}),
        fingerprint="fedcba9876543210",
        pools_by_hexagon=pools,
        settings={
            "model": {"model": "lite", "pretrained": True, "seed": 42},
            "download": {"source": "data"},
            "transform": {"error_threshold": 0.01, "missing_threshold": 0.25,
                          "reference_threshold": 0.0},
            "split": {"strategy": "sheet"},
            "train": {"warmup": 0.2,
                      "augment": {"flips": True, "brightness": 0.2, "contrast": 0.2,
                                  "saturation": 0.2, "scale": 0.0}},
            "evaluate": {"bootstrap": 1000},
        },
    )  # fmt: skip
