"""A small model with weights of its own, and `capetown predict` with it."""

from pathlib import Path

import pandas as pd

from capetown.cli import main
from capetown.imagery.reading import AS_STORED
from capetown.pools.model.manifest import ModelManifest
from tests.pools import USUAL

CARD = ModelManifest(
    architecture="test_efficientnet.r160_in1k", image_size=32, mean=[0.5] * 3, std=[0.5] * 3,
    interpolation="bicubic", tiles=AS_STORED, typical=USUAL, classes=["no", "yes"], threshold=0.6,
    temperature=2.0, dataset="", packages={},
)  # fmt: skip


def predict(folder: Path, out: Path, *arguments: str) -> pd.DataFrame:
    """What `capetown predict` writes with a model's folder."""
    main(["predict", *arguments, "--model", str(folder), "--out", str(out)])
    if out.suffix == ".parquet":
        return pd.read_parquet(out)
    text = dict.fromkeys(("decision", "error", "h3_index", "place_error", "geometry"), str)
    return pd.read_csv(out, dtype=text, keep_default_na=False)
