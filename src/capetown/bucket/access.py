"""Identity towards a source, and addresses that are safe to use and to write down."""

import ipaddress
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from capetown.errors import CapetownError
from capetown.params import Download

# What `download.credentials` may be instead of a file's path.
WITHOUT_FILE = ("anonymous", "aws")
# botocore's way to be told not to read AWS's own files: a profile that the environment names and
# nobody has, or a damaged file, would be an error though nothing of it is wanted.
NO_FILES = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


def check_url(url: str, name: str) -> None:
    """Check that a URL is of a known kind, has no secret in it and is safe to use.

    Raises:
        CapetownError: if it is not; without its secrets.
    """
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        well_formed = parts.port != 0
    except ValueError:
        raise CapetownError(f"{name}: not a URL; correct the host or the port.") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise CapetownError(
            f"{name}: a URL with a user, a password, '?' or '#' in it would end up in dvc.lock; "
            "name the credentials in download.credentials or download.profile."
        )
    if parts.scheme not in ("s3", "https", "http") or not parts.hostname or not well_formed:
        raise CapetownError(
            f"{name}: {url!r} is neither a folder, s3://bucket/prefix nor https://host/path."
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise CapetownError(
            f"{name}: {url!r} is not encrypted, so anyone on the way could change the data; "
            "use https://."
        )


def identity(settings: Download) -> dict[str, Any]:
    """Make s3fs's arguments that say who asks.

    Raises:
        CapetownError: if a file of credentials cannot be read, or a profile is named as well.
    """
    if settings.profile and settings.credentials not in WITHOUT_FILE:
        raise CapetownError("download.profile and a file in download.credentials: set only one.")
    if settings.profile:
        return {"profile": settings.profile}
    if settings.credentials == "anonymous":
        return {"anon": True, "session_vars": NO_FILES}
    if settings.credentials == "aws":
        return {}
    return _read_credentials(Path(settings.credentials))


def _read_credentials(path: Path) -> dict[str, str]:
    try:
        pair = json.loads(path.read_text(encoding="utf-8"))["s3"]
        key, secret = pair["access_key"], pair["secret_key"]
    except OSError as error:
        raise CapetownError(f"download.credentials: {path}: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        key = secret = None
    if not (isinstance(key, str) and isinstance(secret, str) and key and secret):
        raise CapetownError(
            f"download.credentials: {path} is not of the form "
            '{"s3": {"access_key": "...", "secret_key": "..."}}.'
        )
    return {"key": key, "secret": secret}


def is_loopback(host: str) -> bool:
    """True if a host is this machine, whose own traffic nobody else sees."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
