"""`capetown predict`: any tiles, from a model's folder only."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from capetown.cli import main
from capetown.imagery.reading import AS_STORED, read_tile, resize
from capetown.imagery.reducing import reduce_tile
from capetown.layers import write_csv
from capetown.pools.dataset.appearance import describe, fit_appearance
from capetown.pools.dataset.drift import read_with_profile, typical_profile
from capetown.pools.metrics import calibrated
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import save_model
from capetown.pools.prediction.predictions import as_table
from tests import s3
from tests.imagery import geotiff
from tests.pools import drawings
from tests.pools.prediction import CARD, Model, Predict, Refusal, write_tiles


def test_each_tile_has_a_probability_or_an_error(
    predict: Predict, model: Model, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    copied = tmp_path / "copied"
    shutil.copytree(model[1], copied)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = predict("out.csv", tiles, folder=copied)

    names = ["A_1_1.tif", "C_1_1.tiff", "D_1_1.tif", "deep/B_1_1.TIF"]
    assert found["path"].tolist() == [str(tiles / name) for name in names]
    assert found["error"].tolist() == ["", "", found["error"][2], ""]
    assert found["error"][2].startswith("empty")
    good = [0, 1, 3]
    pixels = np.stack([resize(read_tile(tiles / names[n]), 32, "bicubic") for n in good])
    logits = predict_logits(model[0], pixels, mean=CARD.mean, std=CARD.std)
    expected = calibrated(logits, 2.0)
    probabilities = found["probability"].iloc[good].astype(float).to_numpy()
    assert probabilities == pytest.approx(expected, abs=1e-5)
    decided = ["yes" if p >= 0.6 else "no" for p in expected]
    assert found["decision"].tolist() == [*decided[:2], "", decided[2]]
    assert capsys.readouterr().out.splitlines() == [
        f"1 tiles differ from the training data, such as {tiles}/C_1_1.tiff (grey)",
        "no tile is located, so the location columns are empty",
        f"{tmp_path}/out.csv: 4 tiles, {decided.count('yes')} with a pool, 1 unreadable",
    ]
    assert found["drift"].tolist() == ["", "grey", "", ""]


def test_tiles_in_other_colours_are_told_apart_at_the_end(
    predict: Predict, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, sheets = drawings(6, 10, seed=4, side=40)
    appearance = fit_appearance(
        describe([resize(image, 32, "bicubic") for image in images]), sheets
    )
    learned = tmp_path / "model"
    save_model(learned, model[0], CARD.model_copy(update={"appearance": appearance}))
    for name, bands in {"same": [0, 1, 2], "infrared": [2, 0, 1]}.items():
        folder = tmp_path / name
        folder.mkdir()
        for number, image in enumerate(drawings(6, 10, seed=5, side=40)[0]):
            Image.fromarray(image[..., bands]).save(folder / f"{number:02}.tif")
        capsys.readouterr()
        drift = predict(f"{name}.csv", folder, folder=learned)["drift"]
        warned = "do not look like the training tiles" in capsys.readouterr().out.splitlines()[-1]
        assert warned == (name == "infrared")
        assert (2 * drift.str.startswith("colour or texture").sum() > len(drift)) == warned


@pytest.mark.parametrize("keys", [False, True])
def test_a_bucket_is_read_from_the_server_in_the_environment(
    predict: Predict, refusal: Refusal, bucket: Path, seaweed: s3.Server,
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
        error = refusal(private)
        assert (error.where, "Forbidden" in error.what) == (private, True)
    url = private if keys else f"s3://{s3.PUBLIC}/city/images/swimming-pool"
    remote = predict("remote.csv", url)
    folder = bucket / "images" / "swimming-pool"
    local = predict("local.csv", folder)
    assert len(local) == 24
    assert remote["path"].tolist() == [p.replace(str(folder), url) for p in local["path"]]
    assert remote.drop(columns="path").equals(local.drop(columns="path"))


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["nothing-here"], "nothing-here"),
        (["http://127.0.0.1:9/a.tif"], "http://127.0.0.1:9/a.tif"),
        (["empty"], "empty"),
        (["nosuch://bucket"], "nosuch://bucket"),
        (["{tiles}", "--model", "empty"], "empty"),
        (["{tiles}", "--out", "missing/out.csv"], "missing/out.csv"),
        (
            ["{tiles}", "--out", "out.txt"],
            "--out out.txt: not .parquet, .gpkg, .geojson or .csv",
        ),
        (["{tiles}", "--out", "-", "--cluster", "tcp://127.0.0.1:1"], "--out -"),
        (["{tiles}", "--crs", "EPSG:99999"], "--crs EPSG:99999"),
        (["{tiles}", "--overlap", "1"], "--overlap 1.0"),
        # The wording: where, what, fix.
        (
            ["{tiles}", "--overlap", "0.5"],
            "--overlap: only windows overlap; add --tile-metres or --tile-pixels",
        ),
        (["{tiles}", "--tile-metres", "-1"], "--tile-metres -1.0"),
        (["{tiles}", "--tile-metres", "nan"], "--tile-metres nan"),
        (["{tiles}", "--tile-metres", "inf"], "--tile-metres inf"),
        (["{tiles}", "--tile-metres", "0"], "--tile-metres 0.0"),
        (["{tiles}", "--tile-pixels", "0"], "--tile-pixels 0"),
    ],
)
def test_unusable_arguments_are_refused_and_nothing_is_written(
    arguments: list[str], where: str, refusal: Refusal, tiles: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = {*tmp_path.iterdir()}
    given = [argument.format(tiles=tiles) for argument in arguments]
    assert str(refusal("--out", "out.csv", *given)).startswith(where)
    assert {*tmp_path.iterdir()} == before


def test_only_regular_files_are_replaced(refusal: Refusal, tiles: Path, tmp_path: Path) -> None:
    (kept := tmp_path / "kept.csv").write_text("kept")
    (link := tmp_path / "link.csv").symlink_to(kept)
    os.mkfifo(pipe := tmp_path / "pipe.csv")
    (folder := tmp_path / "folder.csv").mkdir()
    for out in (link, pipe, folder, Path("/dev/null")):
        assert refusal(tiles, "--out", out).where == str(out)
    assert link.is_symlink()
    assert kept.read_text() == "kept"


def test_standard_output_gets_only_the_rows(
    predict: Predict, model: Model, tiles: Path, tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    main(["predict", str(tiles), "--model", str(model[1]), "--out", "-"])
    said = capfdbinary.readouterr()
    predict("out.csv", tiles)
    assert said.out == (tmp_path / "out.csv").read_bytes()
    assert b"-: 4 tiles, " in said.err


@pytest.mark.parametrize("count", [1, 100])
def test_a_reader_that_stops_ends_the_command_quietly(
    model: Model, tmp_path: Path, count: int
) -> None:
    """As `| head -1` does. A hundred rows fill the buffer, one does not."""
    tiles = write_tiles(tmp_path / "many", count)
    reading, writing = os.pipe()
    os.close(reading)
    command = ["predict", str(tiles), "--model", str(model[1]), "--out", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "capetown", *command],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in done.stderr


def test_a_run_without_a_readable_tile_fails(refusal: Refusal, tiles: Path, tmp_path: Path) -> None:
    """A mosaic's error names the option that cuts it."""
    mosaic = geotiff(tmp_path / "mosaic.tif", np.zeros((100, 5000, 3), np.uint8))
    out = tmp_path / "out.csv"
    assert refusal(tiles / "D_1_1.tif", mosaic).where == str(out)
    empty, large = pd.read_csv(out)["error"]
    assert empty.startswith("empty")
    assert "5000 x 100 pixels" in large
    assert large.endswith("; cut it into tiles with --tile-metres")


def test_an_original_gives_the_prediction_of_its_reduced_copy(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    """If the manifest says that the model was trained on reduced tiles."""
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
    columns = ["probability", "decision", "drift"]
    found = predict("a.csv", originals, folder=learned)
    assert found[columns].equals(predict("b.csv", kept, folder=learned)[columns])
    assert found["drift"].tolist() == [""]
    # A model trained on originals reads them unreduced.
    plain = predict("c.csv", originals)
    assert plain["probability"][0] != found["probability"][0]


def test_no_text_in_the_csv_is_a_formula() -> None:
    rows = [{"path": "=1+1.tif", "error": "@a", "drift": "b=c", "longitude": -18.5}]
    write_csv(iter([as_table(rows, 0)]), file := BytesIO())
    assert file.getvalue().splitlines()[1] == b"'=1+1.tif,,,'@a,b=c,,,,,-18.5,,,,,,"
