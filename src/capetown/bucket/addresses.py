"""The address of a source and its credentials, checked before anything connects."""

import ipaddress
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from capetown.errors import CapetownError
from capetown.params import Download

# Values of `download.credentials` that are not the path of a file.
WITHOUT_FILE = ("anonymous", "aws")
# Stops botocore from reading ~/.aws: a stale AWS_PROFILE must not break anonymous access.
NO_AWS_FILES = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


def check_url(url: str, name: str) -> None:
    """Check that the URL of a setting is of a known kind, encrypted, and contains no secret.

    Raises:
        CapetownError: it is not. The error contains no secret.
    """
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        well_formed = parts.port != 0
    except ValueError:
        raise CapetownError("not a URL", where=name, fix="correct the host or the port") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise CapetownError(
            "a URL with a user, a password, '?' or '#' in it would end up in dvc.lock",
            where=name,
            fix="name the credentials in download.credentials or download.profile",
        )
    if parts.scheme not in ("s3", "https", "http") or not parts.hostname or not well_formed:
        raise CapetownError(
            f"{url!r} is neither a folder, s3://bucket/prefix nor https://host/path", where=name
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise CapetownError(
            f"{url!r} is not encrypted, so anyone in between could change the data",
            where=name,
            fix="use https://",
        )


def is_loopback(host: str) -> bool:
    """True if a host is this machine, so that its traffic needs no encryption."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def s3_credentials(settings: Download) -> dict[str, Any]:
    """The arguments of s3fs that authenticate.

    Raises:
        CapetownError: a file of credentials cannot be read, or a profile is set as well.
    """
    if settings.profile and settings.credentials not in WITHOUT_FILE:
        raise CapetownError(
            "a profile and a file of credentials", where="download.profile", fix="set only one"
        )
    if settings.profile:
        return {"profile": settings.profile}
    if settings.credentials == "anonymous":
        return {"anon": True, "session_vars": NO_AWS_FILES}
    if settings.credentials == "aws":
        return {}
    return _read_credentials(Path(settings.credentials))


def _read_credentials(path: Path) -> dict[str, str]:
    where = f"download.credentials: {path}"
    try:
        match json.loads(path.read_text(encoding="utf-8")):
            case {"s3": {"access_key": str(key), "secret_key": str(secret)}} if key and secret:
                return {"key": key, "secret": secret}
    except OSError as error:
        raise CapetownError(str(error.strerror), where=where) from None
    except (ValueError, RecursionError):
        pass
    form = '{"s3": {"access_key": "...", "secret_key": "..."}}'
    raise CapetownError(f"is not of the form {form}", where=where)
