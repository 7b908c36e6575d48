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
from capetown.imagery.reading import read_tile, resize
from capetown.pools.model.architecture import classifier_layers, create
from capetown.pools.model.manifest import save_model
from tests.pools import prediction
from tests.pools.prediction import refused

SIZE, COUNT = 64, 5
CARD = prediction.CARD.model_copy(
    update={"image_size": SIZE, "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2], "tta": True}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    torch.manual_seed(3)
    model = create(CARD.architecture, SIZE)
    nn.init.normal_(next(classifier_layers(model)[0].parameters()), std=30)
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, model, CARD)
    return folder


@pytest.fixture(scope="module")
def tiles(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Tiles as a program passes them, uint8, (tiles, 3, size, size), and their probabilities."""
    made = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((90, 80)).save(made / f"{number}.tif")
    out = made / "predictions.csv"
    main(["predict", str(made), "--model", str(folder), "--out", str(out)])
    read = [resize(read_tile(made / f"{n}.tif"), SIZE, "bicubic") for n in range(COUNT)]
    expected = pd.read_csv(out)["probability"].to_numpy()
    assert np.ptp(expected) > 0.01
    return np.stack(read).transpose(0, 3, 1, 2), expected


def exported(folder: Path, out: Path, *options: str) -> onnxruntime.InferenceSession:
    main(["export", "--model", str(folder), "--out", str(out), *options])
    onnx.checker.check_model(out)
    return onnxruntime.InferenceSession(out)


def test_onnx_runtime_equals_predict(
    folder: Path, tiles: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    session = exported(folder, tmp_path / "model.onnx")
    [found] = session.run(None, {"tiles": tiles[0]})
    assert found.shape == (COUNT,)
    assert found == pytest.approx(tiles[1], abs=1e-5)
    [single] = session.run(["probability"], {"tiles": tiles[0][2:3]})
    assert single == pytest.approx(tiles[1][2:3], abs=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["threshold"]) == 0.6
    assert json.loads(metadata["card"]) == json.loads((folder / "model.json").read_text())


def test_deepness_gets_a_map_of_probabilities(
    folder: Path, tiles: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Deepness 0.6 passes floats from 0 to 1, standardised by the metadata."""
    session = exported(folder, tmp_path / "model.onnx", "--deepness", "100")
    metadata = session.get_modelmeta().custom_metadata_map
    said = {name: json.loads(metadata[name]) for name in metadata if name != "card"}
    mean, std = (
        np.array(said.pop(f"standardization_{name}"), np.float32).reshape(3, 1, 1)
        for name in ("mean", "std")
    )
    assert said == {
        "model_type": "Regressor", "class_names": {"0": "pool_percent"}, "resolution": 156.25,
        "tiles_size": SIZE, "tiles_overlap": 0, "reg_output_scaling": 100, "threshold": 0.6,
    }  # fmt: skip
    [given], [wanted] = session.get_inputs(), session.get_outputs()
    assert isinstance(given.shape[0], str)
    assert given.shape[1:] == [3, SIZE, SIZE]
    assert wanted.shape[1:] == [1, SIZE, SIZE]
    [found] = session.run(None, {given.name: (np.float32(tiles[0] / 255.0) - mean) / std})
    assert found.shape == (COUNT, 1, SIZE, SIZE)
    for corner in (found[:, 0, 0, 0], found[:, 0, -1, -1]):
        assert corner == pytest.approx(tiles[1], abs=1e-4)


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
    error = refused("export", "--model", str(folder), "--out", "model.onnx", *arguments)
    assert str(error).startswith(f"{where}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


@pytest.mark.parametrize("command", [["export"], ["compare", "HEAD"], ["labels"]])
def test_files_of_another_kind_are_not_overwritten(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--out", "params.yaml"])
    assert "argument --out: 'params.yaml'" in capsys.readouterr().err


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    error = refused("export", "--model", str(folder), "--out", "model.onnx")
    assert "onnxscript" in error.what
    assert "capetown[export]" in error.fix
