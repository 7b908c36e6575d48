"""`capetown predict`: any tiles, from a model's folder alone."""

import os
import shutil
import socket
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from capetown.cli import main
from capetown.imagery.reading import AS_STORED, read_tile, resize
from capetown.imagery.reducing import reduce_tile
from capetown.pools.dataset.drift import read_with_profile, typical_profile
from capetown.pools.metrics import calibrated
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import save_model
from tests import s3
from tests.pools.prediction import CARD, predict


def test_every_tile_gets_its_probability_or_its_error(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    copied = tmp_path / "copied"
    shutil.copytree(model[1], copied)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = predict(copied, tmp_path / "out.csv", str(tiles))

    names = ["A_1_1.tif", "C_1_1.tiff", "D_1_1.tif", "deep/B_1_1.TIF"]
    assert found["path"].tolist() == [str(tiles / name) for name in names]
    assert found["error"].tolist() == ["", "", "empty: 0 bytes.", ""]
    good = [0, 1, 3]
    pixels = np.stack([resize(read_tile(tiles / names[n]), 32, "bicubic") for n in good])
    logits = predict_logits(model[0], pixels, mean=CARD.mean, std=CARD.std)
    expected = calibrated(logits, 2.0)
    probabilities = found["probability"].iloc[good].astype(float).to_numpy()
    assert probabilities == pytest.approx(expected, abs=1e-5)
    decided = ["yes" if p >= 0.6 else "no" for p in expected]
    assert found["decision"].tolist() == [*decided[:2], "", decided[2]]
    assert "4 tiles, " in (said := capsys.readouterr().out)
    assert "1 that cannot be read" in said


def test_paths_keep_their_order_and_a_file_may_have_any_name(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path
) -> None:
    shutil.copy(tiles / "A_1_1.tif", odd := tmp_path / "photo.dat")
    paths = [str(odd), str(tiles / "manifest"), str(tiles / "deep")]
    found = predict(model[1], tmp_path / "out.csv", *paths)
    assert found["path"].tolist() == [*paths[:2], str(tiles / "deep" / "B_1_1.TIF")]
    assert found["error"].tolist() == [
        "", "no image that is known here, or damaged.", ""
    ]  # fmt: skip


def test_a_url_is_read_through_fsspec(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path
) -> None:
    fsspec.filesystem("memory").put(str(tiles / "A_1_1.tif"), "/tiles/A_1_1.tif")
    found = predict(model[1], tmp_path / "url.csv", "memory://tiles")
    assert found["path"].tolist() == ["memory:///tiles/A_1_1.tif"]
    assert found["probability"].notna().all()
    url = f"file://{tiles}/A_1_1.tif"  # fsspec takes a path as it is, and not as_uri's %20
    assert predict(model[1], tmp_path / "file.csv", url)["path"].tolist() == [url]


@pytest.mark.parametrize("keys", [False, True])
def test_a_buckets_prefix_is_read_from_the_server_that_the_environment_names(
    model: tuple[nn.Module, Path], bucket: Path, seaweed: s3.Server, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, keys: bool,
) -> None:  # fmt: skip
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.url)
    private = f"s3://{s3.PRIVATE}/images/swimming-pool"
    if keys:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_KEY)
    else:
        with pytest.raises(SystemExit, match=f"error: {private}: cannot be listed .*Forbidden"):
            main(["predict", private, "--model", str(model[1]), "--out", str(tmp_path / "no.csv")])
    url = private if keys else f"s3://{s3.PUBLIC}/city/images/swimming-pool"
    remote = predict(model[1], tmp_path / "remote.csv", url)
    folder = bucket / "images" / "swimming-pool"
    local = predict(model[1], tmp_path / "local.csv", str(folder))
    assert len(local) == 24
    assert remote["path"].tolist() == [p.replace(str(folder), url) for p in local["path"]]
    assert remote.drop(columns="path").equals(local.drop(columns="path"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing-here"], r"nothing-here: nothing there, or out of reach\."),
        (["file:///nothing"], r"file:///nothing: nothing there, or out of reach\."),
        (["http://127.0.0.1:9/a.tif"], r"http://127.0.0.1:9/a.tif: nothing there, or out of reach"),
        (["empty"], r"empty: no tile \(TIFF, PNG or JPEG\) there\."),
        (["data:abc"], r"data:abc: cannot be listed \("),
        (["{tiles}", "--model", "empty"], r"empty: no model in it"),
        (["{tiles}", "--out", "missing/out.csv"], r"missing/out\.csv: cannot be written"),
        (["nosuch://bucket"], r"nosuch://bucket: cannot be listed \(Protocol not known"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    arguments: list[str], said: str, model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = {*tmp_path.iterdir()}
    given = [argument.format(tiles=tiles) for argument in arguments]
    with pytest.raises(SystemExit, match=f"error: {said}") as caught:
        main(["predict", "--model", str(model[1]), "--out", "out.csv", *given])
    assert "\n" not in str(caught.value)
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_what_is_no_regular_file_is_never_replaced(
    kind: str, model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    (tmp_path / "kept.csv").write_text("kept")
    if kind == "link":
        out.symlink_to("kept.csv")
    elif kind == "pipe":
        os.mkfifo(out)
    elif kind == "folder":
        out.mkdir()
    else:
        out = Path("/dev/null")
    with pytest.raises(SystemExit, match="is not a regular file and is left alone"):
        main(["predict", str(tiles), "--model", str(model[1]), "--out", str(out)])
    assert (tmp_path / "kept.csv").read_text() == "kept"
    assert kind != "link" or out.is_symlink()


def test_links_are_followed_once_and_a_pipe_is_no_tile(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "one.tif").symlink_to(tiles / "A_1_1.tif")
    (linked / "folder").symlink_to(tiles / "deep")
    (linked / "folder" / "again").symlink_to(linked)
    os.mkfifo(linked / "pipe.tif")
    found = predict(model[1], tmp_path / "out.csv", str(linked))
    names = ["folder/B_1_1.TIF", "one.tif", "pipe.tif"]
    assert found["path"].tolist() == [str(linked / name) for name in names]
    assert found["error"].tolist() == ["", "", "not a file that can be read."]


def test_other_images_in_a_folder_are_left_out_and_said(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "a.webp").touch()
    said = "1 other images are left out, which can be named one by one"
    with pytest.raises(SystemExit, match=f"; {said}"):
        main(["predict", str(others), "--model", str(model[1]), "--out", str(tmp_path / "o.csv")])
    shutil.copy(tiles / "A_1_1.tif", others)
    assert len(predict(model[1], tmp_path / "out.csv", str(others))) == 1
    assert f"{others}: {said}" in caplog.text


def test_standard_output_gets_the_same_rows_and_nothing_else(
    model: tuple[nn.Module, Path],
    tiles: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    main(["predict", str(tiles), "--model", str(model[1]), "--out", "-"])
    said = capfdbinary.readouterr()
    predict(model[1], tmp_path / "out.csv", str(tiles))
    assert said.out == (tmp_path / "out.csv").read_bytes()
    assert b"-: 4 tiles, " in said.err


def test_it_fails_if_no_tile_could_be_read(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(SystemExit, match=r"error: no tile could be read; .*out\.csv says why"):
        main(["predict", str(tiles / "D_1_1.tif"), "--model", str(model[1]), "--out", str(out)])
    assert pd.read_csv(out)["error"].tolist() == ["empty: 0 bytes."]


def test_tiles_unlike_those_learned_from_are_counted_and_named(
    model: tuple[nn.Module, Path], tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = predict(model[1], tmp_path / "out.csv", str(tiles))
    assert found["unlike"].tolist() == ["", "grey", "", ""]
    said = capsys.readouterr().out
    assert "1 tiles are unlike those that the model learned from, such as " in said
    assert "C_1_1.tiff (grey)" in said


def test_an_original_is_judged_as_the_reduced_tile_that_was_kept(
    model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    """By a model that learned from reduced ones, its card says."""
    pixels = np.random.default_rng(5).integers(0, 256, (150, 130, 3), dtype=np.uint8)
    originals, kept, learned = (tmp_path / name for name in ("originals", "kept", "model"))
    originals.mkdir()
    kept.mkdir()
    Image.fromarray(pixels).save(originals / "A_1_1.tif")
    data = (originals / "A_1_1.tif").read_bytes()
    (kept / "A_1_1.tif").write_bytes(reduce_tile(data, 60))
    profile = read_with_profile(kept / "A_1_1.tif", AS_STORED)[1]
    changed = {"typical": typical_profile([profile]), "reduced_to": 60}
    save_model(learned, model[0], CARD.model_copy(update=changed))
    columns = ["probability", "decision", "unlike"]
    found = predict(learned, tmp_path / "a.csv", str(originals))
    assert found[columns].equals(predict(learned, tmp_path / "b.csv", str(kept))[columns])
    assert found["unlike"].tolist() == [""]
    # A model that learned from originals sees them as they are.
    plain = predict(model[1], tmp_path / "c.csv", str(originals))
    assert plain["probability"][0] != found["probability"][0]
