"""Every kind of architecture passes the smoke test, or is refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from capetown.checks.smoke_test import run, run_in_subprocess
from capetown.errors import CapetownError
from capetown.params import Backbone, load_params
from capetown.pools.model import architecture, pretrained
from capetown.pools.model.architecture import build_model
from capetown.pools.model.timm_import import timm
from capetown.pools.training.fit_one import TrainingConfig
from tests import ROOT

TRAIN = load_params(ROOT / "params.yaml").train


def of(architecture: str, image_size: int, batch_size: int = 2) -> Backbone:
    return Backbone(
        architecture=architecture, image_size=image_size, batch_size=batch_size, learning_rate=1e-4
    )


def config(architecture: str, image_size: int, batch_size: int = 2) -> TrainingConfig:
    backbone = of(architecture, image_size, batch_size)
    return TrainingConfig(
        backbone=backbone, settings=TRAIN, pretrained=False, seed=1, threads=2, device="cpu"
    )


# Two heads; a convolution as head; tensors with two names; two kinds of features; a layer that
# crashes oneDNN at this size in channels-last order; and weights of five dimensions.
ODD = [
    ("levit_128s", 64), ("resnetv2_18", 64), ("coat_tiny", 64), ("crossvit_tiny_240", 240),
    ("repvgg_a0", 224), ("lambda_resnet26t", 64),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "size"), ODD)
def test_an_odd_architecture_passes(architecture: str, size: int) -> None:
    run(config(architecture, size))


REFUSED = [
    ("resnet5000", False, "backbones", "no architecture 'resnet5000'"),
    ("convnext_tiny.nonsense", False, "backbones", "no architecture 'convnext_tiny.nonsense'"),
    ("qwen3_vit_88m_enc", False, "backbones", "qwen3_vit_88m_enc has no classifier"),
    # Before its weights are downloaded.
    ("crossvit_9_240.in1k", True, "image_size", "cannot take images of 64 pixels"),
]


@pytest.mark.parametrize(("name", "weights", "where", "what"), REFUSED)
def test_an_architecture_that_cannot_be_used_is_refused_by_name(
    name: str, weights: bool, where: str, what: str
) -> None:
    """On a device without memory: one of them has a hundred million weights."""
    with torch.device("meta"), pytest.raises(CapetownError, match=what) as error:
        build_model(of(name, 64), image_size=64, pretrained=weights, seed=0)
    assert error.value.where == where


@pytest.mark.parametrize(
    "architecture",
    ["cait_xxs24_224.fb_dist_in1k", "hiera_tiny_224.mae_in1k_ft_in1k", "volo_d1_224.sail_in1k"],
)
def test_weights_for_another_size_are_not_called_damaged(
    architecture: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model(architecture, num_classes=1000).state_dict(), file)
    monkeypatch.setattr(pretrained, "find", lambda _: file)
    chosen = of(architecture, 224)
    build_model(chosen, image_size=224, pretrained=True, seed=0)
    with pytest.raises(CapetownError, match="are for 224 pixels and do not fit 256") as error:
        build_model(chosen, image_size=256, pretrained=True, seed=0)
    assert error.value.fix == "set it to 224"
    file.write_bytes(b"damaged")
    with pytest.raises(CapetownError, match=rf"the weights of {architecture} are damaged"):
        build_model(chosen, image_size=256, pretrained=True, seed=0)


def test_batches_of_one_are_refused_where_batch_normalisation_needs_more() -> None:
    with pytest.raises(CapetownError, match="batch normalisation needs more than 1 tile a step"):
        run(config("lcnet_035", 32, batch_size=1))


def test_an_untrainable_architecture_is_refused_as_found_with_the_pinned_timm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert json.loads(architecture.UNTRAINABLE.read_text())["timm"] == timm.__version__
    found = tmp_path / "untrainable.json"
    found.write_text(json.dumps({"timm": "1", "refused": {"resnet18": "it bites"}}))
    monkeypatch.setattr(architecture, "UNTRAINABLE", found)
    with pytest.raises(CapetownError, match=r"resnet18\.a1_in1k cannot be trained .* \(it bites\)"):
        build_model(of("resnet18.a1_in1k", 64), image_size=64, pretrained=False, seed=0)


def test_a_failure_in_the_subprocess_is_one_line() -> None:
    with pytest.raises(CapetownError) as error:
        run_in_subprocess(config("crossvit_9_240", 64))
    assert str(error.value).startswith("image_size: crossvit_9_240 cannot take images of 64")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("program", "seconds", "said"),
    [
        ("kill -SEGV $$", 60, r"crashes its process \(SIGSEGV\)"),
        ("exec sleep 60", 0.5, r"one step of resnet18 takes over 0\.5 s here"),
        ("exit 1", 60, "without a message"),
    ],
)
def test_a_subprocess_that_ends_badly_is_an_error(
    program: str, seconds: float, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))
    with pytest.raises(CapetownError, match=said):
        run_in_subprocess(config("resnet18", 64), seconds=seconds)
