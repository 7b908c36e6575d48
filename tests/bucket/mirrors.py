"""Helpers that mirror a source and check the result."""

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from capetown.bucket import RetentionPolicy, mirror
from capetown.params import Download, load_params
from tests import ROOT, s3

YES, NO = "images/swimming-pool/yes", "images/swimming-pool/no"


def copy(source: Path, to: Path) -> Path:
    shutil.copytree(source, to)
    return to


def files(folder: Path) -> dict[str, bytes]:
    """Every file but the inventory, byte for byte."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {key: path.read_bytes() for key, path in found.items() if key != "inventory.csv"}


def fetch(
    url: str | Path,
    folder: Path,
    *,
    policy: RetentionPolicy | None = None,
    **changed: Any,
) -> None:
    mirror(str(url), folder, incoming(folder), download(**changed), policy)


def download(**changed: Any) -> Download:
    """Settings for a whole bucket, with few tries."""
    quick = {"include": ["**"], "connections": 8, "timeout": 5.0, "tries": 4}
    return load_params(ROOT / "params.yaml").download.model_copy(update=quick | changed)


def incoming(folder: Path) -> Path:
    """Where a mirror's objects arrive."""
    return folder.with_name("incoming")


def fetch_s3(proxy: s3.Proxy, folder: Path, url: str = "s3://public/city", **how: Any) -> None:
    fetch(url, folder, endpoint_url=proxy.url, **how)


def assert_whole(folder: Path, bucket: Path) -> None:
    """The mirror and its inventory have exactly the files of the bucket."""
    assert files(folder) == files(bucket)
    assert not incoming(folder).exists()
    with (folder / "inventory.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == sorted(files(bucket))
    for row in rows:
        data = (bucket / row["key"]).read_bytes()
        assert row == {
            "key": row["key"],
            "size": str(len(data)),
            "etag": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "tile_side": "",
            "kept_size": str(len(data)),
            "kept_sha256": hashlib.sha256(data).hexdigest(),
            "note": "",
        }


def assert_nothing_half_written(folder: Path, bucket: Path, arrived: Path | None = None) -> None:
    """There is no mirror yet, and every arrived object is whole."""
    assert not folder.exists()
    theirs = files(bucket)
    for key, data in files(arrived or incoming(folder)).items():
        assert key == ".partial-journal" or data == theirs[key], key


def credentials(folder: Path, secret: str = s3.SECRET_KEY) -> str:
    """A file of credentials in the City's format."""
    path = folder / "credentials.json"
    path.write_text(json.dumps({"s3": {"access_key": s3.ACCESS_KEY, "secret_key": secret}}))
    return str(path)
