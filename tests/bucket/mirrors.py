"""Helpers that mirror a source and check the result."""

import csv
import hashlib
import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from capetown.bucket import Choice, RetentionPolicy, mirror
from capetown.params import load_params
from tests import ROOT, s3

YES, NO = "images/swimming-pool/yes", "images/swimming-pool/no"
# The tiles of the fixture `tiles`.
LARGE, SMALL = f"{YES}/W35A_7_58.tif", f"{NO}/W35A_7_59.tif"
DAMAGED, DEEP = f"{NO}/W35A_7_60.tif", f"{NO}/W35A_7_61.tif"
EVERYTHING = Choice("requests", ["**"])


def files(folder: Path) -> dict[str, bytes]:
    """Every file but inventories, byte for byte."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {key: path.read_bytes() for key, path in found.items() if path.name != "inventory.csv"}


def fetch(
    url: str | Path, folder: Path, *, choice: Choice = EVERYTHING,
    policy: RetentionPolicy | None = None, **changed: Any,
) -> None:  # fmt: skip
    """Mirror a whole bucket, with few tries."""
    quick = {"connections": 8, "timeout": 5.0, "tries": 4}
    settings = load_params(ROOT / "params.yaml").download.model_copy(update=quick | changed)
    mirror(str(url), folder, incoming(folder), settings, choice, policy)


def fetch_s3(proxy: s3.Proxy, folder: Path, url: str = "s3://public/city", **how: Any) -> None:
    fetch(url, folder, endpoint_url=proxy.url, **how)


def incoming(folder: Path) -> Path:
    """Where a mirror's objects arrive."""
    return folder.with_name("incoming")


def assert_whole(
    folder: Path, bucket: Path, reduced: Collection[str] = (), side: int | None = None
) -> dict[str, str]:
    """Mirror and inventory have exactly the files of the bucket. Return the notes by key."""
    came, kept = files(bucket), files(folder)
    assert not incoming(folder).exists()
    assert kept.keys() == came.keys()
    assert {key for key in came if kept[key] != came[key]} == set(reduced)
    with (folder / "inventory.csv").open() as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert list(rows) == sorted(came)
    notes = {key: note for key, row in rows.items() if (note := row.pop("note"))}
    assert side or not notes
    for key, row in rows.items():
        assert row == {
            "key": key,
            "size": str(len(came[key])),
            "etag": hashlib.md5(came[key]).hexdigest(),
            "sha256": hashlib.sha256(came[key]).hexdigest(),
            "tile_side": str(side) if side and key.endswith(".tif") else "",
            "kept_size": str(len(kept[key])),
            "kept_sha256": hashlib.sha256(kept[key]).hexdigest(),
        }
    return notes


def assert_no_partial(folder: Path, bucket: Path) -> None:
    """There is no mirror yet, and every arrived object is whole."""
    assert not folder.exists()
    theirs = files(bucket)
    for key, data in files(incoming(folder)).items():
        assert key == ".partial-journal" or data == theirs[key], key


def credentials(folder: Path, secret: str = s3.SECRET_KEY) -> str:
    """A file of credentials in the City's format."""
    path = folder / "credentials.json"
    path.write_text(json.dumps({"s3": {"access_key": s3.ACCESS_KEY, "secret_key": secret}}))
    return str(path)


def tiff(side: int) -> bytes:
    """A smooth picture with noise, as LZW: four megabytes at 1,250 pixels."""
    rng = np.random.default_rng(side)
    y, x, _ = np.mgrid[:side, :side, :1] / side
    picture = 120 + 80 * np.sin(7 * x + [0, 1, 2]) * y + rng.normal(0, 3, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "TIFF", compression="tiff_lzw")
    return file.getvalue()
