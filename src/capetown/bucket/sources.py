"""Object stores: a folder, an S3 bucket or a web server, each through fsspec."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.local import LocalFileSystem

from capetown.bucket.addresses import check_url, is_loopback, s3_credentials
from capetown.bucket.keys import (
    CLASS_FOLDERS,
    INVENTORY,
    MANIFESTS,
    WITHOUT,
    Choice,
    NothingFoundError,
    read_manifest,
)
from capetown.bucket.retrying import reason
from capetown.bucket.verification import digest
from capetown.city import TABLES
from capetown.errors import CapetownError
from capetown.params import Download
from capetown.storage import walk_files

CONNECT_TIMEOUT = 10


@dataclass(frozen=True)
class Object:
    """An object as its store describes it: key, size in bytes, ETag ("" if there is none)."""

    key: str
    size: int
    etag: str


@dataclass
class ObjectStore:
    """Objects under one root of an fsspec file system."""

    fs: AsyncFileSystem
    root: str

    async def keys(self, choice: Choice) -> list[str]:
        """All keys. `choice` helps if a server does not list them."""
        raise NotImplementedError

    async def describe(self, key: str) -> Object:
        """Size and ETag of an object."""
        raise NotImplementedError

    async def etag_is_md5(self, item: Object) -> bool:
        """True if an ETag that looks like an MD5 is the object's MD5."""
        return True

    async def is_unchanged(self, item: Object) -> bool:
        """True unless the store knows that the object has another ETag by now."""
        return True

    async def read(self, item: Object) -> bytes:
        """The bytes of an object."""
        data: bytes = await self.fs._cat_file(self.address(item.key))
        return data

    async def start(self, item: Object, size: int) -> bytes:
        """The first bytes of an object."""
        end = min(size, item.size)
        data: bytes = await self.fs._cat_file(self.address(item.key), end=end) if end else b""
        return data

    async def stream(self, item: Object, path: Path) -> None:
        """Write an object to a file without holding it in memory."""
        await self.fs._get_file(self.address(item.key), str(path))

    def address(self, key: str) -> str:
        """Name of an object in the file system."""
        return f"{self.root}/{key}"


class Folder(ObjectStore):
    """A local folder. An object's ETag is its MD5, as in most buckets."""

    async def keys(self, choice: Choice) -> list[str]:  # noqa: D102
        return await asyncio.to_thread(folder_keys, self.root)

    async def describe(self, key: str) -> Object:  # noqa: D102
        path = Path(self.address(key))
        check_regular(path)
        return Object(key, path.stat().st_size, await asyncio.to_thread(digest, path, "md5"))


@dataclass
class Bucket(ObjectStore):
    """A bucket on S3 or a compatible server."""

    listed: dict[str, Object] = field(default_factory=dict)

    async def keys(self, choice: Choice) -> list[str]:  # noqa: D102
        infos = await self.fs._find(self.root, detail=True)
        for name, info in infos.items():
            # Some tools represent a folder by a key that ends in a slash.
            if not name.endswith("/") and len(name) > len(self.root):
                key = name[len(self.root) + 1 :]
                self.listed[key] = Object(key, info["size"], _bare(info.get("ETag")))
        return list(self.listed)

    async def describe(self, key: str) -> Object:  # noqa: D102
        return self.listed[key]

    async def is_unchanged(self, item: Object) -> bool:  # noqa: D102
        return _bare((await self.fs._info(self.address(item.key))).get("ETag")) == item.etag

    async def etag_is_md5(self, item: Object) -> bool:
        """False if the server encrypts the object with KMS or SSE-C: its ETag is another hash."""
        bucket, key, _ = self.fs.split_path(self.address(item.key))
        head = await self.fs._call_s3("head_object", Bucket=bucket, Key=key)
        kms = str(head.get("ServerSideEncryption", "")).startswith("aws:kms")
        return not (kms or "SSECustomerAlgorithm" in head)


class Web(ObjectStore):
    """The City's keys on a web server. It lists nothing, so the manifests name the tiles."""

    async def keys(self, choice: Choice) -> list[str]:  # noqa: D102
        named = [p for p in choice.patterns if not set("*?[!") & set(p)]
        found = {*TABLES, *MANIFESTS, *named}
        if any("/" in p or "**" in p for p in choice.patterns if p not in named):
            for folder, manifest in zip(CLASS_FOLDERS, MANIFESTS, strict=True):
                address = self.address(manifest)
                try:
                    names = read_manifest(await self.fs._cat_file(address))
                except FileNotFoundError as error:
                    raise NothingFoundError(
                        "no such file; it must list the tiles, because the server lists nothing",
                        where=address,
                        fix=f"add it; {WITHOUT[choice.kind]}",
                    ) from error
                found |= {f"{folder}/{name}" for name in names}
        return sorted(found)

    async def describe(self, key: str) -> Object:  # noqa: D102
        session = await self.fs.set_session()
        # Some servers refuse HEAD, or give the size only in answer to GET.
        for request in (session.head, session.get):
            async with request(self.address(key), allow_redirects=True) as answer:
                if answer.ok and "Content-Length" in answer.headers:
                    # Right for `Content-Encoding: gzip` also: the bytes are kept as they come.
                    size, etag = int(answer.headers["Content-Length"]), answer.headers.get("ETag")
                    return Object(key, size, _bare(etag or answer.headers.get("Last-Modified")))
        answer.raise_for_status()
        raise CapetownError("the server does not give its size", where=key)

    async def start(self, item: Object, size: int) -> bytes:  # noqa: D102
        session = await self.fs.set_session()
        # Some servers ignore ranges: the rest of their answer is not read.
        async with session.get(self.address(item.key)) as answer:
            answer.raise_for_status()
            data = bytearray()
            while more := await answer.content.read(size - len(data)):
                data += more
        return bytes(data)

    async def etag_is_md5(self, item: Object) -> bool:
        """True if the server is an S3 server. Other servers' ETags may be anything."""
        session = await self.fs.set_session()
        async with session.head(self.address(item.key)) as answer:
            kms = answer.headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
            return "x-amz-request-id" in answer.headers and not kms

    def address(self, key: str) -> str:  # noqa: D102
        return f"{self.root}/{quote(key)}"


def folder_keys(root: str) -> list[str]:
    """The keys of a folder's files, sorted."""
    keys = [name[len(root) + 1 :] for name in sorted(walk_files(root))]
    # An earlier mirror can be a source. Its inventory is not an object.
    return [key for key in keys if key != INVENTORY]


def check_regular(path: Path) -> None:
    """Refuse pipes and devices, which never end, and broken links."""
    if not path.is_file():
        raise CapetownError(
            "is not a regular file",
            where=path,
            fix="remove it from the source, or exclude it in download.requests or download.tiles",
        )


@asynccontextmanager
async def open_store(url: str, settings: Download) -> AsyncIterator[ObjectStore]:
    """Connect to a source, and close the connections afterwards.

    Raises:
        CapetownError: the URL or the credentials are not valid.
    """
    if "://" not in url:
        if not Path(url).is_dir():
            raise CapetownError("no such folder", where=url, fix="correct download.folder")
        root = os.path.abspath(url)  # noqa: PTH100  (a Path would follow links)
        yield Folder(AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True), root)
        return
    check_url(url, "download.bucket")
    connect = _bucket if urlsplit(url).scheme == "s3" else _web
    async with connect(url.rstrip("/"), settings) as store:
        yield store


@asynccontextmanager
async def _bucket(url: str, settings: Download) -> AsyncIterator[ObjectStore]:
    from botocore.exceptions import BotoCoreError
    from s3fs import S3FileSystem

    try:
        fs = S3FileSystem(
            **s3_credentials(settings),
            endpoint_url=settings.endpoint_url,
            client_kwargs={"region_name": settings.region} if settings.region else {},
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": settings.timeout,
                "max_pool_connections": settings.connections,
                "retries": {"total_max_attempts": 1},
            },
            # One request per object. Parts could be of different versions, and are no faster.
            max_concurrency=1,
            use_listings_cache=False,
            skip_instance_cache=True,
            asynchronous=True,
        )
        # `retry` is the only place that retries.
        fs.retries = 1
        client = await fs.set_session()
    except (BotoCoreError, ValueError) as error:
        raise CapetownError(reason(error), where=url) from None
    try:
        # The environment or a profile may have set the one that is used.
        check_url(client.meta.endpoint_url, "download.endpoint_url")
        yield Bucket(fs, url.removeprefix("s3://"))
    finally:
        await client.close()


@asynccontextmanager
async def _web(url: str, settings: Download) -> AsyncIterator[ObjectStore]:
    import aiohttp
    from fsspec.implementations.http import HTTPFileSystem
    from yarl import URL

    async def check_redirect(session: Any, context: Any, params: Any) -> None:
        target = params.url.join(URL(params.response.headers["Location"]))
        if target.scheme != "https" and not is_loopback(target.host or ""):
            raise CapetownError("redirects to an address without encryption", where=params.url.host)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(check_redirect)
    timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=settings.timeout)
    fs = HTTPFileSystem(
        encoded=True,
        client_kwargs={
            "timeout": timeout,
            "connector": aiohttp.TCPConnector(limit=settings.connections),
            # The bytes as they are stored.
            "headers": {"Accept-Encoding": "identity"},
            "auto_decompress": False,
            # The proxy that the environment names.
            "trust_env": True,
            "trace_configs": [tracing],
        },
        skip_instance_cache=True,
        asynchronous=True,
    )
    async with await fs.set_session():
        yield Web(fs, url)


def _bare(etag: str | None) -> str:
    return (etag or "").removeprefix("W/").strip('"')
