"""A web server as source."""

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from capetown.bucket import Choice
from capetown.bucket.keys import NothingFoundError
from capetown.bucket.verification import read_inventory
from capetown.errors import CapetownError
from tests.bucket.mirrors import YES, fetch, files


class Quiet(SimpleHTTPRequestHandler):
    added: tuple[tuple[str, str], ...] = ()
    without_length: tuple[str, ...] = ()

    def log_message(self, *_: object) -> None:
        pass

    def send_header(self, name: str, value: str) -> None:
        if name != "Content-Length" or self.command not in self.without_length:
            super().send_header(name, value)

    def end_headers(self) -> None:
        for name, value in self.added:
            self.send_header(name, value)
        super().end_headers()


@pytest.fixture
def url(source: Path) -> Iterator[str]:
    """The URL of a web server without listings."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(source)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_web_server_is_mirrored_by_the_manifests(url: str, source: Path, raw: Path) -> None:
    fetch(url, raw)
    assert files(raw) == files(source)
    entries = read_inventory(raw / "inventory.csv").values()
    hashes = {hashlib.sha256(data).hexdigest() for data in files(source).values()}
    assert {entry.sha256 for entry in entries} == hashes
    # A missing tile is named. A manifest need not be UTF-8.
    with (source / YES / "manifest").open("ab") as file:
        file.write(b"caf\xe9.tif\n")
    with pytest.raises(CapetownError, match=r"1 of .*: .*/caf.\.tif \("):
        fetch(url, raw)
    (source / YES / "manifest").unlink()
    with pytest.raises(NothingFoundError) as error:
        fetch(url, raw, choice=Choice("tiles", ["images/**"]))
    assert error.value.where == f"{url}/{YES}/manifest"
    assert "`dvc repro transform`" in error.value.fix


ZEROS = ("ETag", f'"{"0" * 32}"')


@pytest.mark.parametrize(
    ("added", "without_length", "what"),
    [
        # Only an S3 server's ETag is an MD5.
        ((ZEROS,), (), ""),
        ((ZEROS, ("x-amz-request-id", "1")), (), "its ETag says 000"),
        # An encoded object is kept encoded.
        ((("Content-Encoding", "gzip"),), (), ""),
        # A missing size is requested again.
        ((), ("HEAD",), ""),
        ((), ("HEAD", "GET"), "does not give its size"),
    ],
)
def test_headers_of_web_servers_differ(
    added: tuple[tuple[str, str], ...], without_length: tuple[str, ...], what: str,
    url: str, source: Path, raw: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Quiet, "added", added)
    monkeypatch.setattr(Quiet, "without_length", without_length)
    if what:
        with pytest.raises(CapetownError, match=what):
            fetch(url, raw, choice=Choice("requests", ["sr.csv.gz"]), tries=1)
    else:
        fetch(url, raw, choice=Choice("requests", ["sr.csv.gz"]), tries=1)
        assert files(raw) == {"sr.csv.gz": (source / "sr.csv.gz").read_bytes()}
