"""`capetown check` reports in one line what would fail later."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import yaml

from capetown.bucket import mirror
from capetown.bucket.keys import choices
from capetown.checks.everything import check_all
from capetown.checks.tables import START, Start, check_requests
from capetown.cli import main
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.requests.hexagons import read_hexagons
from tests import ROOT, s3
from tests.tables import INSIDE, request, write_hexagons
from tests.tables import text as csv_text

YES = "images/swimming-pool/yes"


@pytest.fixture
def workspace(bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(bucket, tmp_path / "data")
    shutil.copy(ROOT / "groups.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    set_params(tmp_path)
    return tmp_path


def set_params(folder: Path, download: dict[str, Any] | None = None, **values: Any) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | values
    params["download"] |= download or {}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def data_lines() -> list[str]:
    """Return the lines about params and data."""
    lines = check_all(Path("params.yaml"), Path("raw"))
    return list(takewhile(lambda line: not line.startswith("weights"), lines))


def error_line() -> str:
    """Return the error of a check that fails."""
    with pytest.raises(SystemExit) as ended:
        main(["check"])
    error = str(ended.value)
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_every_check_passes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [
        "params", "requests", *["table"] * 3, *["tiles"] * 3, "weights", "device", "model",
    ]  # fmt: skip
    assert lines[5] == "tiles    data is complete: 26 objects are selected"
    assert "warning: fold valid has no `no` tile" in lines[6]
    assert lines[7] == "tiles    24 in 3 groups, which come from: names"
    assert lines[2:5] == [
        "table    data/sr.csv.gz: 16 columns; all 300 rows can be read",
        "table    data/sr_hex.csv.gz: 16 columns",
        "table    data/city-hex-polygons-8.geojson: 3832 hexagons",
    ]
    assert lines[1] == "requests data is complete: 3 objects are selected"


def test_a_path_that_fails_in_dvcs_temporary_workspaces(workspace: Path) -> None:
    shutil.copytree(workspace, project := workspace / "Süd")
    _, line = islice(check_all(project / "params.yaml", Path("raw")), 2)
    assert line.startswith(f"path     {project}: ")
    assert "ASCII" in line


def test_a_wrong_param(workspace: Path) -> None:
    set_params(workspace, seed=-1)
    assert "seed: Input should be greater than or equal to 0" in error_line()


def test_missing_weights(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The hub's client has already read the environment.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(workspace / "cache"))
    set_params(workspace, model="caformer")
    error = error_line()
    assert "caformer_s36.sail_in22k_ft_in1k_384" in error
    assert "or choose model=lite" in error


@pytest.mark.parametrize(
    ("download", "message"),
    [
        ({"bucket": "s3://me:hunter2@bucket/city"}, "would end up in dvc.lock"),
        ({"bucket": "ftp://example.org/city"}, "is neither a folder, s3://"),
        ({"bucket": "http://example.org/city"}, "is not encrypted"),
        ({"bucket": "s3://bucket", "endpoint_url": "http://example.org"}, "is not encrypted"),
        ({"bucket": "s3://bucket", "credentials": "mine.json"}, "mine.json: No such file"),
        ({"bucket": "s3://bucket", "credentials": "mine.json", "profile": "me"}, "set only one"),
        ({"folder": "nowhere"}, "nowhere: no such folder; set download.folder"),
        ({"folder": "s3://bucket"}, "set download.bucket to it"),
        ({"bucket": "/data"}, "set download.folder to it"),
        ({"requests": ["sr.csv.gz", "nothing"]}, "'nothing' matches no key"),
        ({"requests": ["!images/**"]}, "nothing is left of the source"),
        ({"requests": ["sr_hex.csv.gz"]}, "sr.csv.gz: is not fetched; add it to download.requests"),
        ({"requests": ["nothing"], "tiles": ["nothing"]}, "download.tiles: no tiles in data"),
        ({"requests": [], "tiles": ["nothing"]}, "download.tiles: no tiles in data"),
    ],
)
def test_a_wrong_source(workspace: Path, download: dict[str, Any], message: str) -> None:
    set_params(workspace, download)
    error = error_line()
    assert message in error
    assert "hunter2" not in error


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1_000])


def unpack(path: Path) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes()))


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    """Replace the first occurrence of a text in a file, which may be gzipped."""
    zipped = path.suffix == ".gz"
    text = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    text = text.replace(old, new, 1)
    path.write_bytes(gzip.compress(text) if zipped else text)


REQUESTS, HEXAGONS = "sr.csv.gz", "city-hex-polygons-8.geojson"
DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (shutil.rmtree, "data: no such folder; run `dvc pull data.dvc`"),
    (lambda data: (data / REQUESTS).unlink(), "data/sr.csv.gz: no such file; run `dvc pull"),
    (lambda data: cut(data / REQUESTS), "data/sr.csv.gz: is not a whole gzip file"),
    (lambda data: rewrite(data / REQUESTS, b"longitude", b"lon"), "column 'longitude' is missing"),
    (lambda data: unpack(data / REQUESTS), "is not gzip, though its name ends in .gz; save it as"),
    # The first column has no name.
    (lambda data: rewrite(data / REQUESTS, b",", b"reason,"), "'reason': would be overwritten; re"),
    (lambda data: rewrite(data / REQUESTS, b",", b"branch,"), "'branch': exists twice; keep one"),
    (lambda data: cut(data / HEXAGONS), "is not a whole GeoJSON"),
    (lambda data: rewrite(data / HEXAGONS, b'"index"', b'"h3"'), "feature 1: no property 'index'"),
    (lambda data: min((data / YES).glob("*.tif")).write_bytes(b"II*\0"), "is not a TIFF"),
    (lambda data: min((data / YES).glob("*.tif")).unlink(), "not in the source, although"),
    (lambda data: shutil.rmtree(data / YES), f"data/{YES}: no tiles (*.tif) in it; run `dvc"),
]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("values", "what", "fix"),
    [
        ({"creation_timestamp": "12/31/2017 11:59:58 PM"},
         "'12/31/2017 11:59:58 PM' in creation_timestamp is not a time", "TIME_FORMATS in city.py"),
        ({"latitude": "-3748571.5"}, "'-3748571.5', '18.522488' are not degrees", "WGS84"),
        ({"latitude": INSIDE[1], "longitude": INSIDE[0]}, "likely swapped", "exchange LATITUDE"),
        ({"latitude": '"-33,872839"'}, "are not degrees, likely decimal comma", "decimal points"),
        ({"latitude": "-30"}, "'-30', '18.522488' lie in no hexagon", "cover the whole city"),
    ],
)  # fmt: skip
def test_values_of_the_first_rows(
    tmp_path: Path, values: dict[str, str], what: str, fix: str, whole: bool
) -> None:
    """Too many unreadable ones are an error, and a few in a part of the table are a warning."""
    settings = load_params(ROOT / "params.yaml").transform
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))

    def lines(*wrong: int) -> list[str]:
        rows = [request(f"{n}") | (values if n in wrong else {}) for n in range(600)]
        start = Start("s3://b/sr.csv.gz", gzip.compress(csv_text(rows).encode()), whole)
        return list(check_requests(start, hexagons, settings))

    with pytest.raises(CapetownError) as error:
        lines(*range(2, 600))
    assert error.value.where == "s3://b/sr.csv.gz: row 3"
    assert what in error.value.what
    assert "(598 of 600 in the first rows)" in error.value.what
    assert fix in error.value.fix
    if whole:
        with pytest.raises(CapetownError, match=r"row 3: .*\(1 of 600 in"):
            lines(2)
    else:
        warning, said = lines(2)
        assert warning.startswith(f"table    warning: {error.value.where}: ")
        assert "(1 of 600 in" in warning
        assert said == "table    s3://b/sr.csv.gz: 15 columns; the first 600 rows can be read"


def test_a_closed_pipe_is_not_an_error(workspace: Path) -> None:
    """Like in `capetown check | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    # Unbuffered, so that the first line meets the closed pipe.
    done = subprocess.run(
        [sys.executable, "-u", "-m", "capetown", "check"], stdout=writing, stderr=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_data(workspace: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(workspace / "data")
    assert message in error_line()


def test_a_source_may_have_requests_or_tiles_alone(workspace: Path) -> None:
    (workspace / "data").rename(workspace / "all")
    shutil.copytree(workspace / "all" / "images", workspace / "data" / "images")
    for manifest in (workspace / "data").rglob("manifest"):
        manifest.unlink()
    requests, tiles, *_ = data_lines()[1:]
    assert requests.startswith("requests warning: no requests in data")
    assert "`dvc repro evaluate`" in requests
    assert tiles == "tiles    data is complete: 24 objects are selected"
    shutil.rmtree(workspace / "data")
    shutil.copytree(workspace / "all", workspace / "data", ignore=lambda *_: ["images"])
    *_, tiles = data_lines()
    assert tiles.startswith("tiles    warning: no tiles in data")
    assert "`dvc repro transform`" in tiles
    set_params(workspace, {"tiles": [], "requests": ["**"]})
    assert [line.split()[0] for line in data_lines()] == ["params", "requests", *["table"] * 3]


def test_tiles_without_groups(workspace: Path) -> None:
    """Whatever the tiles are called, `check` says where their groups come from."""
    folder = workspace / "data" / "images" / "swimming-pool"
    names = []
    for number, tile in enumerate(sorted(folder.rglob("*.tif"))):
        names.append(f"nice_{number:04}.tif")
        tile.rename(tile.with_name(names[-1]))
    for label in ("no", "yes"):
        found = [path.name for path in (folder / label).glob("*.tif")]
        (folder / label / "manifest").write_text("\n".join(found))
    assert "warning: the split is random" in data_lines()[-2]
    rows = [f"{name},{number // 13}" for number, name in enumerate(names)]
    (workspace / "groups.csv").write_text("\n".join(["path,group", *rows]))
    large, groups = data_lines()[-2:]
    assert (
        "warning: fold valid has no `no` tile; group 0 has 13 of 24 tiles; divide that group"
        in large
    )
    assert groups == "tiles    24 in 2 groups, which come from: table"
    (workspace / "corrections.csv").write_text("path,label,label\n")
    assert "corrections.csv: the header is 'path,label,label'" in error_line()


def test_a_suffix_in_upper_case_is_accepted(workspace: Path) -> None:
    folder = workspace / "data" / YES
    for tile in folder.glob("*.tif"):
        tile.rename(tile.with_suffix(".TIF"))
    (folder / "manifest").write_text("\n".join(p.name for p in folder.glob("*.TIF")) + "\n")
    assert "tiles    data is complete: 26 objects are selected" in data_lines()


def test_changes_in_a_bucket(workspace: Path, seaweed: s3.Server) -> None:
    url = "s3://public/changing"
    seaweed.upload(workspace / "data", "public/changing")
    set_params(workspace, {"bucket": url, "endpoint_url": seaweed.url})
    requests, *tables, tiles = data_lines()[1:]
    assert f"{url}: 3 objects are new, 0 have changed" in requests
    assert f"{url}: 26 objects are new, 0 have changed" in tiles
    assert tables == [
        f"table    {url}/sr.csv.gz: 16 columns; all 300 rows can be read",
        f"table    {url}/sr_hex.csv.gz: 16 columns",
        f"table    {url}/city-hex-polygons-8.geojson: the first 518 hexagons can be read",
    ]
    settings = load_params(workspace / "params.yaml").download
    raw = workspace / "raw"
    for choice in choices(settings):
        mirror(url, choice.mirror(raw), workspace / "incoming", settings, choice)
    same = f"{url} has not changed since it was mirrored"
    requests, *_, tiles = data_lines()[1:]
    assert (requests, tiles) == (f"requests {same}: 3 objects", f"tiles    {same}: 26 objects")
    first, second, *_ = sorted((workspace / "data" / YES).glob("*.tif"))
    seaweed.fs.rm(f"public/changing/{YES}/{first.name}")
    seaweed.fs.pipe(f"public/changing/{YES}/{second.name}", b"changed")
    seaweed.fs.pipe(f"public/changing/{YES}/W35A_7_58.tif", b"new")
    requests, *_, tiles = data_lines()[1:]
    assert requests == f"requests {same}: 3 objects"
    assert "1 objects are new, 1 have changed (0.0 MB) and 1 are gone" in tiles
    assert "`dvc repro --force download_tiles`" in tiles


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_a_wrong_table_in_a_bucket(workspace: Path, seaweed: s3.Server, kind: str) -> None:
    """Only its first bytes are read: the end of the table is missing here."""
    rows = [request(f"{n}", reference_number=sha256(b"%d" % n).hexdigest()) for n in range(8_000)]
    table = gzip.compress(csv_text(rows).encode())
    (workspace / "data" / REQUESTS).write_bytes(table[: START + 1])
    name = f"wrong-{kind}"
    url = f"s3://public/{name}" if kind == "s3" else f"{seaweed.url}/public/{name}"
    set_params(workspace, {"bucket": url, "endpoint_url": seaweed.url, "tries": 1})
    seaweed.upload(workspace / "data", f"public/{name}")
    assert re.search(rf"{url}/{REQUESTS}: 15 columns; the first \d,\d+ rows can", data_lines()[2])
    rewrite(workspace / "data" / HEXAGONS, b'"index"', b'"h3"')
    unpack(workspace / "data" / "sr_hex.csv.gz")
    seaweed.upload(workspace / "data", f"public/{name}")
    assert f"{url}/{HEXAGONS}: feature 1: no property 'index'" in error_line()
    set_params(workspace, {"bucket": url, "endpoint_url": seaweed.url, "requests": [REQUESTS]})
    assert f"{url}/{HEXAGONS}: is not fetched; add it to download.requests" in error_line()


def test_an_unreachable_bucket(workspace: Path) -> None:
    with s3.nobody() as url:
        set_params(workspace, {"bucket": "s3://b", "endpoint_url": url})
        assert "s3://b: cannot be listed" in error_line()
