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
PIPE = "a|b *c* [d](http://e.f) `g` ~~h~~"

CELLS = sorted(h3.grid_disk(INSIDE_CELL, 3))
START = datetime(2020, 1, 1, 12, tzinfo=ZoneInfo("Africa/Johannesburg"))


def tables(days: int = 100) -> dict[str, pl.DataFrame]:
    """Tables of seven requests per day in the hexagons' order, one without coordinates."""
    rows = []
    for day in range(days):
        for n in range(7):
            created = START + timedelta(days=day)
            rows.append(
                {
                    "creation_timestamp": created,
                    "completion_timestamp": created + timedelta(days=2 * n) if n else None,
                    "directorate": SCRIPT if n < 5 else PIPE,
                    "code": SCRIPT if n % 2 else "BURST PIPE",
                    "official_suburb": SCRIPT,
                    "latitude": -33.8 if n < 6 else None,
                    "longitude": 18.5 + n / 1000 if n < 6 else None,
                    "h3_level8_index": CELLS[(7 * day + n) % len(CELLS)] if n < 6 else "0",
                    "join_status": "joined" if n < 6 else "missing_coordinates",
                }
            )
    return request_tables(pl.LazyFrame(rows, infer_schema_length=None))


def facts(folder: Path) -> Facts:
    """The facts of the city and of the classifier."""
    for name in (TILE, HEAT):
        Image.new("RGB", (32, 32), "teal").save(folder / name)
    cells = CELLS
    hexagons = gpd.GeoDataFrame(
        {
            "index": cells,
            "requests": range(len(cells)),
            "directorate: (none)": 0,
            f"directorate: {SCRIPT}": range(len(cells)),
            "median_days_to_completion": [None, *([2.5] * (len(cells) - 1))],
            "suburb": [None, *([SCRIPT] * (len(cells) - 1))],
        },
        geometry=[shapely.Polygon([p[::-1] for p in h3.cell_to_boundary(c)]) for c in cells],
        crs="OGC:CRS84",
    )
    pools = hexagons[["index", "geometry"]].assign(
        tiles=4,
        unread=0,
        tiles_with_pool_expected=2.25,
        tiles_with_pool_low=1,
        tiles_with_pool_high=4,
        called=2,
    )
    joined = sum(range(len(cells)))
    predictions = pd.DataFrame(
        {
            "path": [f"images/swimming-pool/yes/{IMAGE}", *(f"{n}.tif" for n in range(39))],
            "label": ["yes"] * 25 + ["no"] * 15,
            "probability": [n / 40 for n in range(40)][::-1],
        }
    )
    scores = dict.fromkeys(METRICS, 0.5) | {
        "balanced_accuracy": 0.9, "average_precision": 0.98, "precision": 0.96, "recall": 0.88,
        "roc_auc": 0.97,
    }  # fmt: skip
    epochs = pd.DataFrame({"epoch": [0, 1, 2], "phase": ["head", "full", "full"]})
    curve = {"false_positive_rate": [0.0, 0.0, 1.0], "true_positive_rate": [0.0, 1.0, 1.0]}
    return Facts(
        transform={
            "requests": joined + 12, "joined": joined, "missing_coordinates": 10,
            "invalid_coordinates": 1, "outside_city": 1, "failure_rate": 2 / (joined + 2),
            "missing_rate": 10 / (joined + 12),
            "reference": {"compared": joined + 12, "matched": joined + 12, "mismatched": 0},
            "quality": {"hexagons": len(cells), "hexagons_with_requests": len(cells) - 1,
                        "completed_before_creation": 3, "created_apart": 0},
        },
        split={
            "tiles": 200, "rejected": 1, "duplicates": 2, "label_noise": 1,
            "unlike": 0, "unlike_first": "",
            "folds": {
                f: {"yes": 60, "no": 40, "sheets": 9, "groups": 9}
                for f in ("train", "valid", "test")
            },
        },
        evaluate={
            **scores, "threshold": 0.5, "n": 40, "positives": 25, "sheets": 9, "groups": 9,
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
            {
                "notification_number": ["001015950287", PIPE],
                "official_suburb": [SCRIPT, None],
                "latitude": ["-34.044257", "x"],
                "longitude": ["18.774378", "18.5"],
                "reason": [None, "not a number"],
                "metres_to_nearest_hexagon": [78.0, None],
            }
        ),
        history=epochs.assign(**dict.fromkeys(METRICS, 0.5)).assign(
            train_loss=[0.7, 0.5, 0.3], valid_loss=[0.7, 0.6, 0.4], learning_rate=[3e-3, 1e-3, 0],
            average_precision=[0.7, 0.8, 0.9], balanced_accuracy=[0.6, 0.7, 0.8],
            precision=[0.6, 0.7, 0.8], recall=[0.9, 0.8, 0.9], roc_auc=[0.6, 0.8, 0.9],
        ),
        predictions=predictions,
        sheets=pd.DataFrame(
            {"sheet": [SCRIPT], "tiles": [40], "false_positives": [2], "false_negatives": [3]}
        ),
        curves={
            "roc": pd.DataFrame(curve),
            "precision_recall": pd.DataFrame({"recall": [1.0, 0.5], "precision": [0.6, 1.0]}),
            "calibration": pd.DataFrame(
                {"mean_probability": [0.2, 0.8], "share_of_yes": [0.1, 0.9], "tiles": [20, 20]}
            ),
        },
        samples=pd.DataFrame(
            {"path": ["a.tif", "b.tif"], "label": ["yes", "no"], "tile": [TILE] * 2}
        ),
        mistakes=pd.DataFrame(
            {
                "path": [f"images/swimming-pool/yes/{IMAGE}", "b.tif"],
                "label": ["yes", "no"], "probability": [0.01, 0.99],
                "kind": ["false_negative", "false_positive"],
                "tile": [TILE] * 2, "saliency": [HEAT] * 2,
            }
        ),
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
