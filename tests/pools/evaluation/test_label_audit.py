"""Wrong labels come first among the doubtful ones."""

import base64
import re
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from capetown import cli
from capetown.errors import CapetownError
from capetown.params import BandRendering
from capetown.pools.dataset.dataset import LabelledTiles, load_fold
from capetown.pools.evaluation import label_audit
from capetown.pools.evaluation.label_audit import (
    OutOfFold,
    divide,
    doubtful_labels,
    out_of_fold,
)
from capetown.pools.model.architecture import build_model
from capetown.report.pictures import tile_picture
from tests import ROOT
from tests.pools.training.tiny import PARAMS, SMALL, STILL, fold, settings


def test_the_least_credible_label_comes_first_and_suspects_are_counted() -> None:
    names = np.array(["A"] * 4)
    tiles = LabelledTiles(
        list("abcd"), names, names, np.array([1, 1, 0, 0]), np.zeros((4, 1, 1, 3), np.uint8), ""
    )
    found = doubtful_labels(tiles, np.array([0.9, 0.3, 0.6, 0.2]))
    # The mean self-confidence of both classes is 0.6.
    assert found.to_dict("list") == {
        "path": ["b", "c", "d", "a"],
        "label": ["yes", "no", "no", "yes"],
        "probability": [0.3, 0.6, 0.2, 0.9],
        "suspect": [True, True, False, False],
    }


def test_parts_share_no_group_and_have_both_classes() -> None:
    groups = np.repeat([f"g{n}" for n in range(30)], 4)
    classes = np.tile([0, 1, 1, 0], 30)
    part = divide(classes, groups, 5, seed=1)
    assert sorted(np.unique(part)) == [0, 1, 2, 3, 4]
    assert all(len(set(part[groups == name])) == 1 for name in groups)
    assert np.array_equal(part, divide(classes, groups, 5, seed=1))
    assert not np.array_equal(part, divide(classes, groups, 5, seed=2))
    for few in (groups[:8], np.array(["one"] * 8)):
        with pytest.raises(CapetownError) as caught:
            divide(classes[:8], few, 5, seed=1)
        assert "--parts" in caught.value.fix


def test_flipped_labels_are_among_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models are trained on some of the 5 % flipped labels."""
    tiles = fold(80)
    flipped = np.random.default_rng(1).choice(80, 4, replace=False)
    wrong = tiles.labels.copy()
    wrong[flipped] = 1 - wrong[flipped]
    tiles = LabelledTiles(tiles.paths, tiles.sheets, np.array(tiles.paths), wrong, tiles.pixels, "")
    monkeypatch.setattr(label_audit, "load_fold", lambda *_, **__: tiles)
    train = settings(epochs=6, ema_decay=0.0, image_size=64, augment=STILL, tta=False)
    model = {"model": "small", "backbones": {"small": SMALL}, "pretrained": False, "threads": 1}
    params = PARAMS.model_copy(update=model | {"train": train})
    keep = tmp_path / "checkpoints"
    found, probabilities, _, _ = out_of_fold(
        params, table=Path(), root=Path(), cache=Path(), checkpoints=keep, parts=3
    )
    assert found is tiles
    first = set(doubtful_labels(tiles, probabilities)["path"][:8])
    assert {tiles.paths[row] for row in flipped} <= first
    assert list(keep.iterdir()) == []
    assert torch.get_num_threads() == 1


def test_all_folds_are_loaded_as_one(tmp_path: Path) -> None:
    rows = ["path,label,sheet,group,fold,digest,groups_source,names"]
    for number, (label, part) in enumerate([("no", "train"), ("yes", "valid"), ("yes", "test")]):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.tif")
        rows.append(f"{number}.tif,{label},A,A_{number},{part},{number},names,match")
    (tmp_path / "tiles.csv").write_text("\n".join(rows))
    tiles = load_fold(
        tmp_path / "tiles.csv", None, tmp_path,
        size=4, interpolation="bilinear", cache=tmp_path / "cache",
    )  # fmt: skip
    assert tiles.paths == ["0.tif", "1.tif", "2.tif"]
    assert tiles.labels.tolist() == [0, 1, 1]
    some = tiles.subset(np.array([True, False, True]))
    assert (some.paths, some.groups.tolist()) == (["0.tif", "2.tif"], ["A_0", "A_2"])
    assert some.pixels[:, 0, 0, 0].tolist() == [0, 2]
    assert some.digest != tiles.digest


def test_pictures_use_the_rendering_of_the_model_and_stay_in_the_folder(tmp_path: Path) -> None:
    """Twelve bits stored in sixteen would be black without a rendering."""
    root = tmp_path / "raw"
    (root / "a").mkdir(parents=True)
    for path in ("12bit.tif", "../secret.tif"):
        tifffile.imwrite(root / path, np.full((8, 8, 3), 2048, np.uint16))
    (root / "broken.tif").write_bytes(b"II*\0")
    rule = BandRendering(bands=[3, 2, 1], scale=[0, 4095])
    [source] = re.findall('base64,([^"]*)', tile_picture(root, rule, "12bit.tif"))
    with Image.open(BytesIO(base64.b64decode(source))) as image:
        assert image.getpixel((4, 4)) == (128, 128, 128)
    assert tile_picture(root, rule, "broken.tif").startswith("no picture: ")
    outside = f"{tmp_path}/secret.tif", "../secret.tif", "a/../../secret.tif"
    for path in ("missing.tif", "a\0.tif", *outside):
        assert tile_picture(root, rule, path) == ""


def test_the_command_writes_pictures_and_lines_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    tiles = fold(8)
    for path, pixels in zip(tiles.paths, tiles.pixels, strict=True):
        (tmp_path / "raw").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "raw" / path)
    said = np.where(tiles.labels == 1, 0.9, 0.1)
    said[3] = 0.05
    found = OutOfFold(tiles, said, tiles.sheets, by_sheet=True)
    monkeypatch.setattr(label_audit, "out_of_fold", lambda *_, **__: found)
    cli.main(["labels", "--show", "2"])
    first, validated, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("Page: labels.html", "1 of 8 labels may be wrong")
    sheets = len(set(tiles.sheets))
    assert validated.startswith(f"tiles of {sheets} map sheets, each unseen: ROC AUC 0.750 (95 %")
    assert "balanced accuracy 0.875 (95 % interval" in validated
    page = (tmp_path / "labels.html").read_text()
    assert page.count('<img alt="" src="data:image/jpeg;base64,') == 2
    assert "<code>3.tif,no</code>" in page
    assert page.index("3.tif,no") < page.index("0.tif,yes")


@pytest.mark.parametrize(("sheets", "by_sheet"), [(6, True), (2, False)])
def test_parts_keep_map_sheets_together_where_there_are_enough(
    sheets: int, by_sheet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sheets are too few for three parts. Then blocks stay together."""
    plain = fold(24)
    names = np.array([f"S{n % sheets}" for n in range(24)])
    blocks = np.array([f"{name}_{n // 6}" for n, name in enumerate(names)])
    tiles = replace(plain, sheets=names, groups=blocks, groups_source="names")
    seen: list[set[str]] = []

    def train(_: object, part: LabelledTiles, *__: object, **___: object) -> tuple[Any, ...]:
        seen.append(set(part.sheets if by_sheet else part.groups))
        return build_model(SMALL, image_size=64, pretrained=False, seed=1).eval(), [], None

    monkeypatch.setattr(label_audit, "load_fold", lambda *_, **__: tiles)
    monkeypatch.setattr(label_audit, "fit_one", train)
    model = {"model": "small", "backbones": {"small": SMALL}, "pretrained": False, "threads": 1}
    found = out_of_fold(
        PARAMS.model_copy(update=model | {"train": settings(image_size=64, tta=False)}),
        table=Path(), root=Path(), cache=Path(), checkpoints=tmp_path, parts=3,
    )  # fmt: skip
    assert found.by_sheet == by_sheet
    assert found.units.tolist() == (names if by_sheet else blocks).tolist()
    assert all(len(units) < len(set(found.units)) for units in seen)
