"""A web server as source."""

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from capetown.bucket.verification import read_inventory
from capetown.errors import CapetownError
from tests.bucket.mirrors import YES, copy, fetch, files


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(bucket: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server without listings, and the folder that it serves."""
    folder = copy(bucket, tmp_path / "shown")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_a_web_server_is_mirrored_by_the_manifests(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    fetch(url, tmp_path / "raw")
    assert files(tmp_path / "raw") == files(folder)
    entries = read_inventory(tmp_path / "raw" / "inventory.csv")
    assert {entry.sha256 for entry in entries.values()} == {
        hashlib.sha256(data).hexdigest() for data in files(folder).values()
    }


def test_a_web_servers_missing_tile_is_named(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    tile = min((folder / YES).glob("*.tif"))
    tile.unlink()
    with pytest.raises(CapetownError, match=f"1 of .*: {YES}/{tile.name}"):
        fetch(url, tmp_path / "raw")


def test_a_web_servers_manifest_need_not_be_utf8(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    with (folder / YES / "manifest").open("ab") as file:
        file.write(b"caf\xe9.tif\n")
    with pytest.raises(CapetownError, match=r"1 of .*caf.\.tif"):
        fetch(url, tmp_path / "raw")


@pytest.mark.parametrize("of_s3", [False, True])
def test_only_an_s3_servers_etag_is_an_md5(
    web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_s3: bool
) -> None:
    end = Quiet.end_headers

    def with_etag(self: Quiet) -> None:
        self.send_header("ETag", f'"{"0" * 32}"')
        if of_s3:
            self.send_header("x-amz-request-id", "1")
        end(self)

    monkeypatch.setattr(Quiet, "end_headers", with_etag)
    url, folder = web
    if of_s3:
        with pytest.raises(CapetownError, match="its ETag says 000"):
            fetch(url, tmp_path / "raw", include=("sr.csv.gz",), tries=1)
    else:
        fetch(url, tmp_path / "raw")
        assert files(tmp_path / "raw") == files(folder)


def test_an_encoded_object_is_kept_encoded(
    web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = Quiet.end_headers

    def encoded(self: Quiet) -> None:
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        end(self)

    monkeypatch.setattr(Quiet, "end_headers", encoded)
    url, folder = web
    fetch(url, tmp_path / "raw")
    assert files(tmp_path / "raw") == files(folder)


@pytest.mark.parametrize("of", ["HEAD", "both"])
def test_a_missing_size_is_requested_again(
    of: str, web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Quiet.send_header

    def without_length(self: Quiet, name: str, value: str) -> None:
        if name != "Content-Length" or (of == "HEAD" and self.command == "GET"):
            send(self, name, value)

    monkeypatch.setattr(Quiet, "send_header", without_length)
    url, folder = web
    if of == "both":
        with pytest.raises(CapetownError, match="does not give its size"):
            fetch(url, tmp_path / "raw", include=("sr.csv.gz",), tries=1)
    else:
        fetch(url, tmp_path / "raw", include=("sr.csv.gz",))
        assert files(tmp_path / "raw") == {"sr.csv.gz": (folder / "sr.csv.gz").read_bytes()}
