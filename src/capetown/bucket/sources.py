"""Sources of objects: a folder, an S3 bucket or a web server, each as fsspec shows it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import Callback
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.local import LocalFileSystem

from capetown.bucket.access import check_url, identity, is_loopback
from capetown.bucket.keys import CLASS_FOLDERS, INVENTORY, MANIFESTS, read_manifest
from capetown.bucket.retrying import DamagedError, reason
from capetown.bucket.verification import digest
from capetown.city import TABLES
from capetown.errors import CapetownError
from capetown.params import Download
from capetown.storage import walk_files

CONNECT_TIMEOUT = 10
# A larger object of a bucket is fetched in ranges of this many bytes, several at a time. A tile of
# the City's has 4 MB and comes in one piece.
RANGE = 8 << 20


@dataclass(frozen=True)
class Object:
    """An object as its source describes it: key, size in bytes, ETag ("" if there is none)."""

    key: str
    size: int
    etag: str


class ObjectStore:
    """Objects under one root of a file system of fsspec's."""

    # Whether it surely answers a request for a part of an object with that part.
    ranged = False

    def __init__(self, fs: AsyncFileSystem, root: str) -> None:
        self.fs = fs
        self.root = root

    async def keys(self, include: Sequence[str]) -> list[str]:
        """The keys there are; `include` helps where a server does not list them."""
        raise NotImplementedError

    async def describe(self, key: str) -> Object:
        """Size and ETag of an object."""
        raise NotImplementedError

    async def has_md5(self, item: Object) -> bool:
        """True if an ETag that looks like an object's MD5 is one."""
        return True

    async def is_current(self, item: Object) -> bool:
        """True if an object's ETag is still the one it was described with."""
        return _bare((await self.fs._info(self.address(item.key))).get("ETag")) == item.etag

    async def read(self, item: Object) -> bytes:
        """The bytes of an object of at most `RANGE`."""
        data: bytes = await self.fs._cat_file(self.address(item.key))
        return data

    async def fetch(self, item: Object, path: Path, advance: Callable[[int], None]) -> None:
        """Write a larger object to a file, telling `advance` how many bytes came."""
        await self.fs._get_file(self.address(item.key), str(path), callback=_Callback(advance))

    async def fetch_range(self, item: Object, start: int, end: int) -> bytes:
        """The bytes of an object from `start` up to `end`."""
        data: bytes = await self.fs._cat_file(self.address(item.key), start=start, end=end)
        if len(data) != end - start:
            raise DamagedError(f"{len(data)} bytes came where {end - start} were asked for")
        return data

    def address(self, key: str) -> str:
        """Name of an object in the file system."""
        return f"{self.root}/{key}"


def folder_keys(root: str) -> list[str]:
    """The keys of a folder's files, sorted.

    Raises:
        CapetownError: a folder cannot be listed.
    """
    keys = [name[len(root) + 1 :] for name in sorted(walk_files(root))]
    # An earlier mirror can be a source: its inventory is about it, not of it.
    return [key for key in keys if key != INVENTORY]


def check_regular(path: Path) -> None:
    """Refuse what is no file: a pipe or a device, which would never end, or a link to nothing.

    Raises:
        CapetownError: it is such.
    """
    if not path.is_file():
        raise CapetownError(
            f"{path}: is not a regular file; remove it from the source, or leave it out by "
            "download.include."
        )


class Folder(ObjectStore):
    """A folder on this machine. An object's ETag is its MD5, as in most buckets."""

    async def keys(self, include: Sequence[str]) -> list[str]:  # noqa: D102
        return await asyncio.to_thread(folder_keys, self.root)

    async def describe(self, key: str) -> Object:  # noqa: D102
        path = Path(self.address(key))
        check_regular(path)
        return Object(key, path.stat().st_size, await asyncio.to_thread(digest, path, "md5"))


class Bucket(ObjectStore):
    """A bucket of S3 or of a server that speaks its language."""

    ranged = True

    def __init__(self, fs: AsyncFileSystem, root: str) -> None:
        super().__init__(fs, root)
        self.listed: dict[str, Object] = {}

    async def keys(self, include: Sequence[str]) -> list[str]:  # noqa: D102
        infos = await self.fs._find(self.root, detail=True)
        for name, info in infos.items():
            # A key that ends in a slash is how some tools draw a folder.
            if not name.endswith("/") and len(name) > len(self.root):
                key = name[len(self.root) + 1 :]
                self.listed[key] = Object(key, info["size"], _bare(info.get("ETag")))
        return list(self.listed)

    async def describe(self, key: str) -> Object:  # noqa: D102
        return self.listed[key]

    async def read(self, item: Object) -> bytes:  # noqa: D102
        # Were parts allowed, s3fs would first ask for the size, in a request of its own.
        data: bytes = await self.fs._cat_file(self.address(item.key), max_concurrency=1)
        return data

    async def has_md5(self, item: Object) -> bool:
        """False if the server says that it keeps the object encrypted with a key of KMS or SSE-C.

        The ETags of such objects are hashes of something else.
        """
        bucket, key, _ = self.fs.split_path(self.address(item.key))
        head = await self.fs._call_s3("head_object", Bucket=bucket, Key=key)
        kms = str(head.get("ServerSideEncryption", "")).startswith("aws:kms")
        return not (kms or "SSECustomerAlgorithm" in head)


class Web(ObjectStore):
    """The City's keys on a web server, which lists nothing: manifests say which tiles there are."""

    async def keys(self, include: Sequence[str]) -> list[str]:  # noqa: D102
        named = [p for p in include if not set("*?[!") & set(p)]
        found = {*TABLES, *MANIFESTS, *named}
        if any("/" in p or "**" in p for p in include if p not in named):
            for folder, manifest in zip(CLASS_FOLDERS, MANIFESTS, strict=True):
                names = read_manifest(await self.fs._cat_file(self.address(manifest)))
                found |= {f"{folder}/{name}" for name in names}
        return sorted(found)

    async def describe(self, key: str) -> Object:  # noqa: D102
        session = await self.fs.set_session()
        # Some servers refuse HEAD, or say the size only in answer to GET.
        for ask in (session.head, session.get):
            async with ask(self.address(key), allow_redirects=True) as answer:
                if answer.ok and "Content-Length" in answer.headers:
                    # Also where it says `Content-Encoding: gzip`: the bytes are kept as they come.
                    size, etag = int(answer.headers["Content-Length"]), answer.headers.get("ETag")
                    return Object(key, size, _bare(etag or answer.headers.get("Last-Modified")))
        answer.raise_for_status()
        raise CapetownError(f"{key}: the server does not say how large it is")

    async def has_md5(self, item: Object) -> bool:
        """True if the server is an S3: other servers' ETags may be anything."""
        session = await self.fs.set_session()
        async with session.head(self.address(item.key)) as answer:
            kms = answer.headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
            return "x-amz-request-id" in answer.headers and not kms

    def address(self, key: str) -> str:  # noqa: D102
        return f"{self.root}/{quote(key)}"


@asynccontextmanager
async def open_source(url: str, settings: Download) -> AsyncIterator[ObjectStore]:
    """Connect to a source, and close the connections afterwards.

    Args:
        url: a folder, ``s3://bucket/prefix`` or ``https://host/path``.
        settings: how to reach it; a folder needs none of it.

    Raises:
        CapetownError: if the URL is not of these kinds, has a secret in it or is not encrypted, or
            the credentials cannot be read.
    """
    if "://" not in url:
        if not Path(url).is_dir():
            raise CapetownError(f"{url}: no such folder; correct download.source.")
        yield Folder(AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True), _absolute(url))
        return
    check_url(url, "download.source")
    connect = _bucket if urlsplit(url).scheme == "s3" else _web
    async with connect(url.rstrip("/"), settings) as source:
        yield source


@asynccontextmanager
async def _bucket(url: str, settings: Download) -> AsyncIterator[ObjectStore]:
    from botocore.exceptions import BotoCoreError
    from s3fs import S3FileSystem

    try:
        fs = S3FileSystem(
            **identity(settings),
            endpoint_url=settings.endpoint_url,
            client_kwargs={"region_name": settings.region} if settings.region else {},
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": settings.timeout,
                "max_pool_connections": settings.connections,
                "retries": {"total_max_attempts": 1},
            },
            use_listings_cache=False,
            skip_instance_cache=True,
            asynchronous=True,
        )
        # Trying again is our own business, in one place and for every kind of source.
        fs.retries = 1
        client = await fs.set_session()
    except (BotoCoreError, ValueError) as error:
        raise CapetownError(f"{url}: {reason(error)}") from None
    try:
        # The one that is used, which the environment or a profile may have set.
        check_url(client.meta.endpoint_url, "download.endpoint_url")
        yield Bucket(fs, url.removeprefix("s3://"))
    finally:
        await client.close()


@asynccontextmanager
async def _web(url: str, settings: Download) -> AsyncIterator[ObjectStore]:
    import aiohttp
    from fsspec.implementations.http import HTTPFileSystem
    from yarl import URL

    async def check_redirect(
        session: aiohttp.ClientSession,
        context: object,
        params: aiohttp.TraceRequestRedirectParams,
    ) -> None:
        target = params.url.join(URL(params.response.headers["Location"]))
        if target.scheme != "https" and not is_loopback(target.host or ""):
            raise CapetownError(f"{params.url.host} redirects to an address that is not encrypted")

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(check_redirect)
    fs = HTTPFileSystem(
        encoded=True,
        client_kwargs={
            "timeout": aiohttp.ClientTimeout(
                sock_connect=CONNECT_TIMEOUT, sock_read=settings.timeout
            ),
            "connector": aiohttp.TCPConnector(limit=settings.connections),
            # The bytes as they are stored, by way of a proxy if the environment names one.
            "headers": {"Accept-Encoding": "identity"},
            "auto_decompress": False,
            "trust_env": True,
            "trace_configs": [tracing],
        },
        skip_instance_cache=True,
        asynchronous=True,
    )
    async with await fs.set_session():
        yield Web(fs, url)


class _Callback(Callback):  # type: ignore[misc]
    """fsspec's way to say how many bytes came."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.relative_update = advance


def _bare(etag: str | None) -> str:
    return (etag or "").removeprefix("W/").strip('"')


def _absolute(folder: str) -> str:
    return os.path.abspath(folder)  # noqa: PTH100  (a Path would follow links)
