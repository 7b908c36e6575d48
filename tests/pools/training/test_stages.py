"""The stages train and evaluate, in subprocesses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from capetown.pools.metrics import METRICS
from capetown.pools.training import parallel
from tests import ROOT
from tests.pools.training.tiny import CPU, SMALL, fold, outspoken_model


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The inputs of the stages: params, 24 small tiles, and their folds."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"pretrained": False, "threads": 1}
    # Many short epochs: a kill comes before the last one.
    params["train"] |= {"image_size": 32, "head_epochs": 1, "epochs": 12, "patience": 12}
    params["train"]["std"] = [0.25] * 3
    params["backbones"]["lite"] |= {"architecture": SMALL.architecture, "batch_size": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    sheets = [f"S{n // 4}" for n in range(24)]
    profile = {"side": 32, "resolution": 0.0, "dark": False, "grey": False, "reduced_to": 0,
               "groups_source": "none", "names": "unknown"}  # fmt: skip
    table = pd.DataFrame({"label": ["no", "yes"] * 12, "sheet": sheets, "group": sheets, **profile})
    table["fold"] = ["train"] * 16 + ["valid"] * 4 + ["test"] * 4
    table["path"] = table["digest"] = [f"{sheet}_{n}_1.tif" for n, sheet in enumerate(sheets)]
    for folder in ("raw", "splits", "metrics"):
        (tmp_path / folder).mkdir()
    for path, pixels in zip(table["path"], fold(24, 32).pixels, strict=True):
        Image.fromarray(pixels).save(tmp_path / "raw" / path)
    table.to_csv(tmp_path / "splits" / "tiles.csv", index=False)
    return tmp_path


def start_stage(workspace: Path, name: str, *launcher: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(workspace / "c")}
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, f"stages.{name}"],
        cwd=workspace, env=environment, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_stage(workspace: Path, name: str, *launcher: str, code: int = 0) -> str:
    stage = start_stage(workspace, name, *launcher)
    _, said = stage.communicate()
    assert stage.returncode == code, said
    return said


def outs(workspace: Path) -> dict[str, bytes]:
    files = [*(workspace / "metrics").rglob("*.*"), *(workspace / "models").iterdir()]
    return {str(file.relative_to(workspace)): file.read_bytes() for file in files}


def test_a_killed_training_resumes_and_both_stages_write_their_outs(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "workspace"
    shutil.copytree(workspace, other)
    tiles = pd.read_csv(other / "splits" / "tiles.csv")
    for path in tiles[tiles["fold"] == "test"]["path"]:  # training does not need them
        (other / "raw" / path).unlink()
    assert "which hides small pools" in run_stage(other, "train")

    with start_stage(workspace, "train") as stage:
        assert any(line.startswith("epoch 3") for line in stage.stderr or ())
        stage.kill()
    assert stage.returncode == -signal.SIGKILL
    (workspace / "metrics").rmdir()
    (workspace / "metrics").touch()  # blocks the outs after the last epoch
    said = run_stage(workspace, "train", code=1)
    assert "resuming after epoch" in said
    assert "decoded" not in said
    assert not (workspace / "models").exists()
    (workspace / "metrics").unlink()
    assert "valid loss" not in run_stage(workspace, "train")
    assert outs(workspace) == outs(other)
    assert list((workspace / "checkpoints").iterdir()) == []

    history = pd.read_csv(workspace / "metrics" / "history.csv")
    assert list(history.columns) == [
        "epoch", "phase", "train_loss", "valid_loss", *METRICS, "learning_rate",
    ]  # fmt: skip
    for name in history.columns[2:]:
        plot = workspace / "metrics" / "train" / "plots" / "metrics" / f"{name}.tsv"
        logged = pd.read_csv(plot, sep="\t")
        assert logged["step"].tolist() == [1 + epoch for epoch in history["epoch"]]
        assert logged[name].tolist() == pytest.approx(history[name].tolist())

    assert "the split is random" in run_stage(workspace, "evaluate")
    figures = json.loads((workspace / "metrics" / "evaluate.json").read_text())
    assert figures["valid_for"] == "tiles next to those it was trained on"
    predicted = pd.read_csv(workspace / "metrics" / "predictions.csv")
    assert list(predicted.columns) == ["path", "label", "probability", "group"]
    assert len(predicted) == figures["n"] == 4
    manifest = json.loads((workspace / "models" / "model.json").read_text())
    assert (manifest["mean"], manifest["std"]) == ([0.485, 0.456, 0.406], [0.25] * 3)
    assert (manifest["interpolation"], manifest["reduced_to"]) == ("bicubic", None)
    cards = [(workspace / folder / "README.md").read_text() for folder in ("models", "evaluation")]
    assert ["On the test fold:" in card for card in cards] == [False, True]
    wrong = (predicted["probability"] >= manifest["threshold"]) != (predicted["label"] == "yes")
    evaluation = workspace / "evaluation"
    mistakes, samples = (pd.read_csv(evaluation / f"{of}.csv") for of in ("mistakes", "samples"))
    assert len(mistakes) == wrong.sum()
    assert {p.name for p in evaluation.glob("*.png")} == {
        *mistakes["tile"],
        *mistakes["saliency"],
        *samples["tile"],
    }

    before = outs(workspace)
    tiles.head(0).to_csv(workspace / "splits" / "tiles.csv", index=False)
    said = run_stage(workspace, "train", code=1)
    assert "error: models/: has results of tiles" in said
    assert "`dvc repro transform`" in said
    assert outs(workspace) == before


def test_batch_norms_use_whole_batches_on_gpus_and_warn_on_other_devices(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = outspoken_model("test_efficientnet.r160_in1k")
    batch = torch.rand(2, 3, 64, 64)
    before, parameters = model(batch), list(model.parameters())

    def synchronised(device: str) -> set[bool]:
        parallel.synchronise_batch_norms(model, torch.device(device))
        norms = [layer for layer in model.modules() if hasattr(layer, "running_mean")]
        return {isinstance(layer, nn.SyncBatchNorm) for layer in norms}

    assert synchronised("cuda") == {False}
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    parallel.synchronise_batch_norms(outspoken_model("test_convnext.r160_in1k"), CPU)
    assert caplog.text == ""
    assert synchronised("cpu") == {False}
    assert "batch normalisation uses each process's share of a batch" in caplog.text
    assert synchronised("cuda") == {True}
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert torch.equal(model(batch), before)


def test_two_processes_train_as_one(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a backbone that normalises each image by itself, so that a batch can be divided."""
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["backbones"]["lite"] |= {"architecture": "test_convnext.r160_in1k", "batch_size": 6}
    params["train"]["epochs"] = 2
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    # Five tiles to validate: a share of three and a share of two.
    table = pd.read_csv(workspace / "splits" / "tiles.csv")
    table.loc[table.index[table["fold"] == "test"][:1], "fold"] = "valid"
    table.to_csv(workspace / "splits" / "tiles.csv", index=False)
    other = tmp_path_factory.mktemp("other") / "workspace"
    shutil.copytree(workspace, other)
    run_stage(workspace, "train")
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    assert run_stage(other, "train", *launcher).count("epoch 3 (full)") == 1
    alone, together = (pd.read_csv(root / "metrics" / "history.csv") for root in (workspace, other))
    pd.testing.assert_frame_equal(alone, together, atol=2e-6, rtol=0)
    one, two = (load_file(root / "models" / "model.safetensors") for root in (workspace, other))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert list((other / "checkpoints").iterdir()) == []
