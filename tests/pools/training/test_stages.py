"""The stages train and evaluate, in subprocesses."""

import importlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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

RunHere = Callable[[Path, str], str]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The inputs of the stages: params, 24 small tiles, and their folds."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"pretrained": False, "threads": 1}
    params["train"] |= {"image_size": 32, "head_epochs": 1, "epochs": 12, "std": [0.25] * 3}
    params["train"] |= {"patience": 12}  # many short epochs: a kill comes before the last one
    params["backbones"]["lite"] |= {"architecture": SMALL.architecture, "batch_size": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    rows = []
    for n, pixels in enumerate(fold(24, 32).pixels):
        label = "yes" if n % 2 else "no"
        path = f"images/swimming-pool/{label}/S{n // 4}_{n}_1.tif"
        (tmp_path / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "raw" / path)
        rows.append((path, label, f"S{n // 4}", ("train", "valid", "test")[max(0, n // 4 - 3)]))
    (tmp_path / "splits").mkdir()
    (tmp_path / "metrics").mkdir()
    table = pd.DataFrame(rows, columns=["path", "label", "sheet", "fold"])
    profile = {"side": 32, "resolution": 0.0, "dark": False, "grey": False, "reduced_to": 0}
    table = table.assign(group=table["sheet"], digest=table["path"], **profile)
    table.to_csv(tmp_path / "splits" / "tiles.csv", index=False)
    return tmp_path


def start_stage(workspace: Path, name: str, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(workspace / "c")}
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, f"stages.{name}"],
        cwd=workspace, env=environment, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_stage(workspace: Path, name: str) -> str:
    stage = start_stage(workspace, name)
    _, said = stage.communicate()
    assert stage.returncode == 0, said
    return said


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> RunHere:
    """Runs a stage in this process, which has imported torch already, and returns its log."""

    def run(workspace: Path, name: str) -> str:
        monkeypatch.chdir(workspace)
        monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "c"))
        caplog.clear()
        with caplog.at_level(logging.INFO):
            importlib.import_module(f"stages.{name}").main()
        return caplog.text

    return run


def outputs(workspace: Path) -> dict[str, bytes]:
    """The outs of a training."""
    files = [*(workspace / "metrics").rglob("*.*"), *(workspace / "models").iterdir()]
    return {str(file.relative_to(workspace)): file.read_bytes() for file in files}


def lines(stage: subprocess.Popen[str]) -> Iterator[str]:
    assert stage.stderr is not None
    yield from stage.stderr


def test_a_killed_training_resumes_and_both_stages_write_their_outs(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, run_here: RunHere
) -> None:
    other = tmp_path_factory.mktemp("other") / "workspace"
    shutil.copytree(workspace, other)
    tiles = pd.read_csv(other / "splits" / "tiles.csv")
    for path in tiles[tiles["fold"] == "test"]["path"]:
        (other / "raw" / path).unlink()  # training does not need them
    run_stage(other, "train")

    stage = start_stage(workspace, "train")
    for line in lines(stage):
        if line.startswith("epoch 3"):
            stage.send_signal(signal.SIGKILL)
            break
    assert stage.wait() == -signal.SIGKILL
    [checkpoint] = (workspace / "checkpoints").iterdir()
    assert (checkpoint / "last.pt").exists()
    (workspace / "metrics").rmdir()
    (workspace / "metrics").touch()  # blocks the outs after the last epoch
    stage = start_stage(workspace, "train")
    assert "resuming after epoch" in stage.communicate()[1]
    assert stage.returncode != 0
    assert not (workspace / "models").exists()
    (workspace / "metrics").unlink()
    said = run_stage(workspace, "train")
    assert "resuming after epoch" in said
    assert "valid loss" not in said
    assert outputs(workspace) == outputs(other)
    assert list((workspace / "checkpoints").iterdir()) == []

    history = pd.read_csv(workspace / "metrics" / "history.csv")
    assert list(history.columns) == [
        "epoch", "phase", "train_loss", "valid_loss", *METRICS, "learning_rate",
    ]  # fmt: skip
    plots = workspace / "metrics" / "train" / "plots" / "metrics"
    assert sorted(p.stem for p in plots.iterdir()) == sorted(history.columns[2:])
    for name in history.columns[2:]:
        logged = pd.read_csv(plots / f"{name}.tsv", sep="\t")
        assert logged["step"].tolist() == [1 + epoch for epoch in history["epoch"]]
        assert logged[name].tolist() == pytest.approx(history[name].tolist())

    run_here(workspace, "evaluate")
    figures = json.loads((workspace / "metrics" / "evaluate.json").read_text())
    predicted = pd.read_csv(workspace / "metrics" / "predictions.csv")
    assert list(predicted.columns) == ["path", "label", "probability"]
    assert len(predicted) == figures["n"] == 4
    manifest = json.loads((workspace / "models" / "model.json").read_text())
    assert (manifest["mean"], manifest["std"]) == ([0.485, 0.456, 0.406], [0.25] * 3)
    assert (manifest["interpolation"], manifest["reduced_to"]) == ("bicubic", None)
    cards = [(workspace / folder / "README.md").read_text() for folder in ("models", "evaluation")]
    assert ["On the test fold:" in card for card in cards] == [False, True]
    wrong = (predicted["probability"] >= manifest["threshold"]) != (predicted["label"] == "yes")
    mistakes = pd.read_csv(workspace / "evaluation" / "mistakes.csv")
    assert len(mistakes) == wrong.sum()
    samples = pd.read_csv(workspace / "evaluation" / "samples.csv")
    named = {*mistakes["tile"], *mistakes["saliency"], *samples["tile"]}
    pictures = {p.name for p in (workspace / "evaluation").glob("*.png")}
    assert named == pictures
    for name in pictures:
        with Image.open(workspace / "evaluation" / name) as picture:
            assert picture.size == (32, 32)


def test_tiles_are_decoded_once_for_each_input_size(workspace: Path, run_here: RunHere) -> None:
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())

    def decoded() -> int:
        return len(re.findall(r"decoded \d+ tiles", run_here(workspace, "train")))

    counts = []
    for changed in ({"head_epochs": 0, "epochs": 1}, {"weight_decay": 0.01}, {"image_size": 40}):
        params["train"] |= changed
        path.write_text(yaml.safe_dump(params))
        counts.append(decoded())
    assert counts == [2, 0, 2]


def test_a_changed_param_starts_from_the_beginning(workspace: Path, run_here: RunHere) -> None:
    stage = start_stage(workspace, "train")
    for line in lines(stage):
        if line.startswith("epoch 1"):
            stage.kill()
            break
    stage.wait()
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["train"] |= {"epochs": 1, "weight_decay": 0.01}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    assert "resuming" not in run_here(workspace, "train")
    assert len(pd.read_csv(workspace / "metrics" / "history.csv")) == 2


def test_batch_norms_use_whole_batches_on_gpus_and_warn_on_other_devices(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = outspoken_model("test_efficientnet.r160_in1k")
    batch = torch.rand(2, 3, 64, 64)
    before, parameters = model(batch), list(model.parameters())

    def kinds() -> set[type]:
        return {type(m) for m in model.modules() if hasattr(m, "running_mean")}

    own = kinds()
    parallel.synchronise_batch_norms(model, torch.device("cuda"))
    assert kinds() == own
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    parallel.synchronise_batch_norms(model, CPU)
    assert kinds() == own
    assert "batch normalisation uses each process's share of a batch" in caplog.text

    parallel.synchronise_batch_norms(model, torch.device("cuda"))
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds())
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert torch.equal(model(batch), before)

    caplog.clear()
    parallel.synchronise_batch_norms(outspoken_model("test_convnext.r160_in1k"), CPU)
    assert caplog.text == ""


def test_two_processes_train_as_one(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, run_here: RunHere
) -> None:
    """With a backbone that normalises each image by itself, so that a batch can be divided."""
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["backbones"]["lite"] |= {"architecture": "test_convnext.r160_in1k", "batch_size": 6}
    params["train"] |= {"epochs": 2}
    path.write_text(yaml.safe_dump(params))
    # Five tiles to validate: a share of three and a share of two.
    table = pd.read_csv(workspace / "splits" / "tiles.csv")
    table.loc[table.index[table["fold"] == "test"][:1], "fold"] = "valid"
    table.to_csv(workspace / "splits" / "tiles.csv", index=False)
    other = tmp_path_factory.mktemp("other") / "workspace"
    shutil.copytree(workspace, other)
    run_here(workspace, "train")

    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    stage = start_stage(other, "train", launcher)
    _, said = stage.communicate()
    assert stage.returncode == 0, said
    assert said.count("epoch 3 (full)") == 1
    alone, together = (pd.read_csv(root / "metrics" / "history.csv") for root in (workspace, other))
    pd.testing.assert_frame_equal(alone, together, atol=2e-6, rtol=0)
    one, two = (load_file(root / "models" / "model.safetensors") for root in (workspace, other))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert list((other / "checkpoints").iterdir()) == []
