"""A small model, and tiles for it."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from capetown.cli import main
from capetown.pools.model.architecture import classifier_layers, create
from capetown.pools.model.manifest import save_model
from tests.pools.prediction import CARD, Model, Predict, Refusal, refused


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(3)
    built = create(CARD.architecture, CARD.image_size)
    nn.init.normal_(next(classifier_layers(built)[0].parameters()))
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, built, CARD)
    return built, folder


@pytest.fixture
def predict(model: Model, tmp_path: Path) -> Predict:
    """Run `capetown predict` and read its output: a path, or a name in the temporary folder."""

    def run(out: str | Path, *arguments: str | Path, folder: Path = model[1]) -> pd.DataFrame:
        out = tmp_path / out
        main(["predict", *map(str, arguments), "--model", str(folder), "--out", str(out)])
        if out.suffix == ".parquet":
            return pd.read_parquet(out)
        if out.suffix != ".csv":
            layer = {"layer": "tiles"} if out.suffix == ".gpkg" else {}
            read: pd.DataFrame = geopandas.read_file(out, **layer)
            return read
        columns = ("decision", "error", "h3_index", "location_source", "location_error", "geometry")
        text = dict.fromkeys(columns, str)
        return pd.read_csv(out, dtype=text, keep_default_na=False)

    return run


@pytest.fixture
def refusal(model: Model, tmp_path: Path) -> Refusal:
    """Run `capetown predict` with output to `out.csv`, and return its error."""
    options = ["--model", str(model[1]), "--out", str(tmp_path / "out.csv")]
    return lambda *arguments: refused("predict", *options, *map(str, arguments))


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Three tiles, one grey and one in a subfolder, an empty file and a manifest."""
    folder = tmp_path / "tiles"
    (folder / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(folder / "A_1_1.tif")
    Image.fromarray(pixels[1]).save(folder / "deep" / "B_1_1.TIF", format="TIFF")
    Image.fromarray(pixels[1][..., 0]).save(folder / "C_1_1.tiff")
    (folder / "D_1_1.tif").write_bytes(b"")
    (folder / "manifest").write_text("A_1_1.tif\n")
    return folder
