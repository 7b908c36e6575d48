"""`capetown export`: ONNX Runtime alone gives the same probabilities."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from capetown.cli import main
from capetown.imagery.reading import AS_STORED, read_tile, resize
from capetown.pools.model.architecture import classifier_layers, create
from capetown.pools.model.manifest import ModelManifest, save_model
from tests.pools import TYPICAL
from tests.pools.prediction import refused

SIZE, TILES = 64, 5
CARD = ModelManifest(
    architecture="test_efficientnet.r160_in1k", image_size=SIZE, mean=[0.5, 0.4, 0.3],
    std=[0.5, 0.25, 0.2], interpolation="bicubic", tiles=AS_STORED, typical=TYPICAL,
    classes=["no", "yes"], threshold=0.6, temperature=2.0, dataset="", packages={}, tta=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, tiles and their predictions."""
    torch.manual_seed(3)
    model = create(CARD.architecture, SIZE)
    nn.init.normal_(next(classifier_layers(model)[0].parameters()), std=30)
    folder = tmp_path_factory.mktemp("export")
    save_model(folder / "models", model, CARD)
    (folder / "tiles").mkdir()
    rng = np.random.default_rng(0)
    for number in range(TILES):
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((90, 80)).save(folder / "tiles" / f"A_1_{number}.tif")
    command = ["predict", str(folder / "tiles"), "--out", str(folder / "predictions.csv")]
    main([*command, "--model", str(folder / "models")])
    return folder


def exported(folder: Path, *options: str) -> Path:
    out = folder / "model.onnx"
    main(["export", "--model", str(folder / "models"), "--out", str(out), *options])
    onnx.checker.check_model(out)
    return out


def as_read(folder: Path) -> np.ndarray:
    """The tiles as a program passes them: uint8, (tiles, 3, size, size)."""
    files = sorted((folder / "tiles").iterdir())
    tiles = [resize(read_tile(file, AS_STORED), SIZE, "bicubic") for file in files]
    return np.stack(tiles).transpose(0, 3, 1, 2)


def test_onnx_runtime_equals_predict(folder: Path) -> None:
    session = onnxruntime.InferenceSession(exported(folder))
    [found] = session.run(None, {"tiles": as_read(folder)})
    expected = pd.read_csv(folder / "predictions.csv")["probability"].to_numpy()
    assert found.shape == (TILES,)
    assert np.ptp(expected) > 0.01
    assert found == pytest.approx(expected, abs=1e-5)
    [single] = session.run(["probability"], {"tiles": as_read(folder)[2:3]})
    assert single == pytest.approx(expected[2:3], abs=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["threshold"]) == 0.6
    assert json.loads(metadata["card"]) == json.loads((folder / "models/model.json").read_text())


def test_deepness_gets_a_map_of_probabilities(folder: Path) -> None:
    """Deepness 0.6 passes floats from 0 to 1, standardised by the metadata."""
    session = onnxruntime.InferenceSession(exported(folder, "--deepness", "100"))
    metadata = session.get_modelmeta().custom_metadata_map
    said = {name: json.loads(metadata[name]) for name in metadata if name != "card"}
    assert said == {
        "model_type": "Regressor",
        "class_names": {"0": "pool_percent"},
        "resolution": 156.25,
        "tiles_size": SIZE,
        "tiles_overlap": 0,
        "standardization_mean": [0, 0, 0],
        "standardization_std": [1 / 255] * 3,
        "reg_output_scaling": 100,
        "threshold": 0.6,
    }
    [given], [wanted] = session.get_inputs(), session.get_outputs()
    assert isinstance(given.shape[0], str)
    assert given.shape[1:] == [3, SIZE, SIZE]
    assert wanted.shape[1:] == [1, SIZE, SIZE]
    ones = np.float32(as_read(folder) * 1.0 / 255.0)
    mean, std = (
        np.array(said[f"standardization_{name}"], np.float32).reshape(3, 1, 1)
        for name in ("mean", "std")
    )
    [found] = session.run(None, {given.name: (ones - mean) / std})
    expected = pd.read_csv(folder / "predictions.csv")["probability"].to_numpy()
    assert found.shape == (TILES, 1, SIZE, SIZE)
    for corner in (found[:, 0, 0, 0], found[:, 0, -1, -1]):
        assert corner == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--out", "missing/model.onnx"], "missing/model.onnx"),
        (["--model", "nothing"], "nothing"),
        (["--out", "folder.onnx"], "folder.onnx"),
        (["--deepness", "0"], "--deepness 0.0"),
        (["--deepness", "nan"], "--deepness nan"),
    ],
)
def test_invalid_arguments_are_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("capetown.pools.prediction.export._exported", lambda *_: b"onnx")
    (tmp_path / "folder.onnx").mkdir()
    error = refused("export", "--model", str(folder / "models"), "--out", "model.onnx", *arguments)
    assert str(error).startswith(f"{where}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


@pytest.mark.parametrize(
    ("command", "out"),
    [("export", "models/model.safetensors"), ("compare", "params.yaml"),
     ("labels", "corrections.csv")],
)  # fmt: skip
def test_files_of_another_kind_are_not_overwritten(
    command: str, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, *(["HEAD"] if command == "compare" else []), "--out", out])
    ending = ".onnx" if command == "export" else ".html"
    assert f"argument --out: '{out}': the file to write ends in {ending}" in capsys.readouterr().err


def test_a_missing_package_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    out = str(tmp_path / "model.onnx")
    error = refused("export", "--model", str(folder / "models"), "--out", out)
    assert "onnxscript" in error.what
    assert "capetown[export]" in error.fix
