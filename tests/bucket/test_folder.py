"""A folder as source: the mirror is complete and verified, or unchanged."""

import logging
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from capetown.bucket import Choice, RetentionPolicy
from capetown.bucket.keys import MANIFESTS
from capetown.bucket.verification import read_inventory
from capetown.checks.source import check_folder
from capetown.errors import CapetownError
from tests.bucket.mirrors import (
    EVERYTHING,
    NO,
    YES,
    assert_no_partial,
    assert_whole,
    fetch,
    files,
    incoming,
)

TILES = Choice("tiles", ["images/**"])


def refuse(*_: object) -> None:
    raise AssertionError("fetched again")


def test_a_folder_needs_no_network_and_a_second_run_writes_nothing(
    bucket: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", refuse)
    fetch(bucket, raw)
    assert_whole(raw, bucket)
    before = {p: p.stat().st_mtime_ns for p in raw.rglob("*")}
    fetch(bucket, raw)
    assert {p: p.stat().st_mtime_ns for p in raw.rglob("*")} == before


def test_changes_in_source_and_mirror_are_repaired(source: Path, raw: Path) -> None:
    fetch(source, raw)
    (source / "sr_hex_truncated.csv").write_text("changed\n")
    (source / "new").mkdir()
    (source / "new" / "table.csv").write_text("a\n")
    fetch(source, raw)
    assert_whole(raw, source)
    # In the mirror: another pixel of the same size, a missing file, a stray one.
    tile = next((raw / YES).glob("*.tif"))
    tile.write_bytes(tile.read_bytes()[:-1] + bytes([tile.read_bytes()[-1] ^ 1]))
    (raw / "sr.csv.gz").unlink()
    (raw / "stray").mkdir()
    (raw / "stray" / "file").write_text("x")
    shutil.rmtree(source / "new")
    fetch(source, raw)
    assert_whole(raw, source)
    assert not {raw / "new", raw / "stray"} & set(raw.iterdir())


def test_a_failing_run_leaves_the_mirror_unchanged(bucket: Path, source: Path, raw: Path) -> None:
    fetch(bucket, raw)
    before = files(raw)
    (source / "sr_hex_truncated.csv").write_text("changed\n")
    (source / "sr.csv.gz").write_bytes(b"damaged")
    with pytest.raises(CapetownError, match=r"sr\.csv\.gz"):
        fetch(source, raw)
    assert files(raw) == before
    assert set(files(incoming(raw))) == {".partial-journal", "sr_hex_truncated.csv"}
    fetch(bucket, raw)
    assert_whole(raw, bucket)


def test_a_file_may_become_a_folder_and_back(raw: Path, tmp_path: Path) -> None:
    for name in ("table", "table/part", "table"):
        source = tmp_path / "source"
        shutil.rmtree(source, ignore_errors=True)
        (source / name).parent.mkdir(parents=True)
        (source / name).write_text("a\n")
        fetch(source, raw)
        assert_whole(raw, source)


def test_a_run_interrupted_while_moving_objects_continues(
    bucket: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, moved = Path.replace, []

    def cut_off(path: Path, target: Path) -> Path:
        if path.is_relative_to(incoming(raw)) and target.is_relative_to(raw):
            moved.append(target)
            if len(moved) == 5:
                raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            fetch(bucket, raw)
    assert len(files(raw)) == 4
    assert not (raw / "inventory.csv").exists()
    monkeypatch.setattr("capetown.bucket.sources.ObjectStore.read", refuse)
    fetch(bucket, raw)
    assert_whole(raw, bucket)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"\xff" + text[: len(text) // 2],
        lambda text: b"\0" * len(text),
        lambda text: b'"' + b"x" * 200_000 + b"\n" + text,
        lambda text: text.replace(b",", b",9" + b"9" * 5_000),
    ],
)
def test_a_damaged_inventory_is_rebuilt(
    damage: Callable[[bytes], bytes], bucket: Path, raw: Path
) -> None:
    fetch(bucket, raw)
    inventory = raw / "inventory.csv"
    (raw / "sr.csv.gz").unlink()
    inventory.write_bytes(damage(inventory.read_bytes()))
    fetch(bucket, raw)
    assert_whole(raw, bucket)


def test_only_chosen_files_are_in_the_mirror(bucket: Path, raw: Path) -> None:
    fetch(bucket, raw, choice=Choice("requests", ["*"]))
    assert set(files(raw)) == {p.name for p in bucket.iterdir() if p.is_file()}
    # Tiles have a folder of their own, and leave the rest of the mirror as it is.
    before = files(raw)
    (raw / "images").mkdir()
    (raw / "images" / "stray").touch()
    fetch(bucket, raw, choice=Choice("tiles", ["images/**"], 3))
    first = [p for c in (NO, YES) for p in sorted((bucket / c).glob("*.tif"))[:3]]
    tiles = {p.relative_to(bucket).as_posix() for p in first} | set(MANIFESTS)
    assert files(raw).keys() == before.keys() | tiles
    assert read_inventory(raw / "images" / "inventory.csv").keys() == tiles
    fetch(bucket, raw, choice=Choice("tiles", []))
    assert files(raw) == before
    assert read_inventory(raw / "images" / "inventory.csv") == {}


def test_tiles_that_an_earlier_version_kept_are_not_fetched_again(
    bucket: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had one inventory for everything. Without it a reduced tile would be unknown."""
    policy = RetentionPolicy(tile_side=640, reduce=lambda data, _: data + b"reduced")
    fetch(bucket, raw, policy=policy)
    before = files(raw)
    monkeypatch.setattr("capetown.bucket.sources.ObjectStore.read", refuse)
    fetch(bucket, raw, policy=policy, choice=Choice("tiles", ["images/**"]))
    assert files(raw) == before


@pytest.mark.parametrize(
    ("key", "data", "reason"),
    [
        ("sr.csv.gz", b"\x1f\x8b\x08", "is not a whole gzip file"),
        ("city-hex-polygons-8.geojson", b'{"type": "FeatureCollection", "fea', "is not a whole G"),
        ("city-hex-polygons-8.geojson", b"", "is empty"),
        (f"{YES}/Z_1_1.tif", b"\x89PNG\r\n\x1a\n", "is not a TIFF"),
    ],
)
def test_an_object_with_the_wrong_content_is_named(
    key: str, data: bytes, reason: str, source: Path, raw: Path
) -> None:
    (source / key).write_bytes(data)
    with pytest.raises(CapetownError) as error:
        fetch(source, raw)
    assert f": {key} ({reason}" in error.value.what
    assert_no_partial(raw, source)
    assert not (incoming(raw) / key).exists()


def test_tiles_are_compared_with_the_manifest(
    source: Path, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tile = min((source / NO).glob("*.tif"))
    shutil.copy(tile, source / NO / "A0_0_0.tif")
    with caplog.at_level(logging.WARNING, "capetown"):
        fetch(source, raw)
    assert f"{NO}/A0_0_0.tif" in caplog.text
    tile.unlink()
    with pytest.raises(CapetownError) as error:
        fetch(source, raw)
    assert error.value.where == f"{NO}/{tile.name}"
    # Without a manifest, a folder has the tiles that are there.
    (source / NO / "manifest").unlink()
    fetch(source, raw)
    assert_whole(raw, source)
    shutil.rmtree(raw)
    (source / NO / "manifest").write_text(f"{tile.name}\n")
    fetch(source, raw, choice=Choice("requests", ["**", f"!{NO}/{tile.name}"]))
    assert_whole(raw, source)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_pipes_and_broken_links_are_refused_only_if_chosen(
    make: Callable[[Path], None], source: Path, raw: Path
) -> None:
    make(source / "other")
    check_folder(source, TILES, {})
    tile = source / YES / "S99_1_1.tif"
    make(tile)
    with pytest.raises(CapetownError) as error:
        check_folder(source, Choice("tiles", ["**/*.tif"]), {})
    assert error.value.where == str(tile)
    with pytest.raises(CapetownError, match="S99_1_1"):
        fetch(source, raw)


def test_a_link_to_a_folder_is_followed(source: Path, raw: Path, tmp_path: Path) -> None:
    before = files(source)
    (source / YES).rename(tmp_path / "elsewhere")
    (source / YES).symlink_to(tmp_path / "elsewhere")
    fetch(source, raw)
    assert files(raw) == before
    assert set(check_folder(source, TILES, {})) < set(before)


def test_a_link_does_not_lead_out_of_the_mirror(bucket: Path, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    raw.mkdir()
    (raw / "images").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "mine").touch()
    for choice in (EVERYTHING, TILES):
        with pytest.raises(CapetownError) as error:
            fetch(bucket, raw, choice=choice)
        assert error.value.where.startswith(str(raw / "images"))
        outside = [path.name for path in (tmp_path / "outside").rglob("*") if path.is_file()]
        assert outside == ["mine"]


@pytest.mark.parametrize("source", [".", "raw", "raw/images"])
def test_a_source_within_the_mirror_is_refused(source: str, bucket: Path, raw: Path) -> None:
    fetch(bucket, raw)
    with pytest.raises(CapetownError, match="contain each other"):
        fetch(raw.parent / source, raw)
    assert_whole(raw, bucket)
