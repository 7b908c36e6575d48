"""Retries that do not wait, and tiles of the City's size."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import s3
from tests.bucket.mirrors import DAMAGED, DEEP, LARGE, SMALL, tiff


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capetown.bucket.retrying.FIRST_WAIT", 0.01)
    monkeypatch.setattr("capetown.bucket.retrying.LONGEST_WAIT", 0.05)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Where the mirror will be."""
    return tmp_path / "raw"


@pytest.fixture
def source(bucket: Path, tmp_path: Path) -> Path:
    """A copy of the bucket, to change."""
    return shutil.copytree(bucket, tmp_path / "source")


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiles of the City's size, one of them damaged, a small one, and one of 32 bits."""
    folder = tmp_path_factory.mktemp("tiles")
    large = tiff(1250)
    assert 3_000_000 < len(large) < 5_000_000
    damaged = large[:2_000_000] + bytes(1_000) + large[2_001_000:]
    deep = io.BytesIO()
    Image.fromarray(np.ones((700, 700), dtype=np.float32)).save(deep, "TIFF")
    made = {LARGE: large, SMALL: tiff(256), DAMAGED: damaged, DEEP: deep.getvalue()}
    for key, data in made.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
        with (folder / key).with_name("manifest").open("a") as manifest:
            manifest.write(f"{Path(key).name}\n")
    return folder


@pytest.fixture(scope="session")
def stored(tiles: Path, seaweed: s3.Server) -> str:
    """The tiles in SeaweedFS."""
    seaweed.upload(tiles, f"{s3.PUBLIC}/tiles")
    return f"s3://{s3.PUBLIC}/tiles"
