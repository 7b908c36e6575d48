"""The City's keys: what belongs together, what is chosen, and what is safe to write to a disk."""

import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from glob import escape
from pathlib import PurePosixPath

from fsspec.utils import glob_translate

from capetown.city import CLASSES, MANIFEST, TILES_FOLDER
from capetown.errors import CapetownError

# The folders of the classes.
CLASS_FOLDERS = tuple(f"{TILES_FOLDER}/{name}" for name in CLASSES)
MANIFESTS = tuple(f"{folder}/{MANIFEST}" for folder in CLASS_FOLDERS)

# Names that a mirror uses for itself, so that no object can have them.
INVENTORY = "inventory.csv"
TEMPORARY = ".partial-"

# Files of keys and passwords, by the last part of their names. The City's bucket has one, for its
# challenge; a mirror would copy it into DVC's cache and push it from there.
CREDENTIALS = re.compile(
    r"[^/]*(cred|secret|passw|token|api_?key|id_rsa)[^/]*|[^/]*\.(pem|p12|pfx|key|env)|\.netrc",
    re.IGNORECASE,
)


def is_tile(key: str) -> bool:
    """True if a key is a tile of one of the two classes."""
    return (
        key.lower().endswith((".tif", ".tiff")) and str(PurePosixPath(key).parent) in CLASS_FOLDERS
    )


def is_credentials(key: str) -> bool:
    """True if a key's name is one that files of keys and passwords have."""
    return not is_tile(key) and CREDENTIALS.fullmatch(PurePosixPath(key).name) is not None


def choose(keys: Iterable[str], include: Sequence[str], max_tiles: int | None) -> list[str]:
    """The keys that match a pattern of `include`, and of those the first tiles of each class.

    Args:
        keys: all keys of a bucket.
        include: glob patterns: ``*`` stays within a folder, ``**`` crosses folders, and a pattern
            that starts with ``!`` leaves out what it matches. Files of credentials are taken by
            their own names alone.
        max_tiles: how many tiles of each class to keep, in the order of their names; None for all.

    Returns:
        The chosen keys, sorted.

    Raises:
        CapetownError: if there are no keys or none is chosen, or a pattern is not valid or takes
            none of them.
    """
    everything = sorted(set(keys))
    if not everything:
        raise CapetownError("the source holds no objects; correct download.source.")
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for pattern in include:
        takes = not pattern.startswith("!")
        found = set(filter(_matcher(pattern), everything))
        if takes and not any(map(_matcher(f"!{pattern}"), everything)):
            raise CapetownError(
                f"download.include: {pattern!r} matches no key of the source, whose first keys are "
                f"{some(everything, 5)}; correct the pattern or remove it."
            )
        (wanted if takes else unwanted).update(found)
    if not wanted - unwanted:
        raise CapetownError(
            "download.include: nothing is left of the source; patterns with '!' leave out of what "
            "the others take, so begin with '**'."
        )
    return _first_tiles(sorted(wanted - unwanted), max_tiles)


def matches(key: str, include: Sequence[str]) -> bool:
    """True if `choose` would take a key, were there no limit on tiles."""
    hits = [p for p in include if _matcher(p)(key)]
    return bool(hits) and not any(p.startswith("!") for p in hits)


def check_keys(keys: Sequence[str]) -> None:
    """Check that every key is the path of one file within a folder.

    Raises:
        CapetownError: at a key that would lead elsewhere, that a mirror uses for itself, or that
            is a file and a folder at once.
    """
    files = set(keys)
    for key in keys:
        if why := _unsafe(key):
            raise CapetownError(
                f"key {key!r} {why}, so it is not written and nothing was fetched; leave it out by "
                f"adding {_excluding(key)} to download.include."
            )
        if parents := [str(p) for p in PurePosixPath(key).parents if str(p) in files]:
            raise CapetownError(
                f"keys {parents[0]!r} and {key!r} cannot both be files on a disk; leave one out by "
                f"adding {_excluding(parents[0])} to download.include."
            )


def read_manifest(data: bytes) -> list[str]:
    """The tile names in a manifest, sorted. Blank lines, paths and its own name are no matter.

    UTF-8, or the UTF-16 that some editors save: told by its byte order mark or, without one, by
    the zero byte in its first character.
    """
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:2]:
        encoding = "utf-16-be" if data.startswith(b"\0") else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    lines = data.decode(encoding, errors="replace").splitlines()
    return sorted({PurePosixPath(line.strip()).name for line in lines} - {"", "manifest"})


def check_manifests(
    chosen: Collection[str],
    manifests: Mapping[str, bytes],
    include: Sequence[str],
    max_tiles: int | None,
) -> list[str]:
    """Check that the tiles which the manifests name are all there, as far as they were asked for.

    Args:
        chosen: the keys that were chosen.
        manifests: the bytes of each chosen manifest by its key.
        include: see `choose`.
        max_tiles: see `choose`.

    Returns:
        The chosen tiles that no manifest names, sorted.

    Raises:
        CapetownError: if a manifest that was asked for, or a tile that one names, is not there.
    """
    missing: list[str] = []
    extra: list[str] = []
    for folder, manifest in zip(CLASS_FOLDERS, MANIFESTS, strict=True):
        tiles = {key for key in chosen if is_tile(key) and key.startswith(f"{folder}/")}
        if manifest not in manifests:
            missing += [manifest] if tiles and matches(manifest, include) else []
            continue
        named = [f"{folder}/{name}" for name in read_manifest(manifests[manifest])]
        asked = _first_tiles([key for key in named if matches(key, include)], max_tiles)
        missing += [key for key in asked if key not in tiles]
        extra += sorted(tiles - set(named))
    if missing:
        raise CapetownError(
            f"{len(missing)} of the source's objects should be there and are not: "
            f"{some(missing, 20)}; ask the bucket's owner, or go on without them by adding "
            f"{_excluding(missing[0])} and so on to download.include."
        )
    return extra


def _first_tiles(keys: list[str], max_tiles: int | None) -> list[str]:
    if max_tiles is None:
        return keys
    kept = {
        key
        for folder in CLASS_FOLDERS
        for key in [k for k in keys if is_tile(k) and k.startswith(f"{folder}/")][:max_tiles]
    }
    return [key for key in keys if not is_tile(key) or key in kept]


def _matcher(pattern: str) -> Callable[[str], bool]:
    """True for the keys that a pattern, with or without its ``!``, is about."""
    glob = pattern.removeprefix("!")
    try:
        match = re.compile(glob_translate(glob)).match
    except (ValueError, re.error) as error:
        raise CapetownError(
            f"download.include: {pattern!r} is not a glob pattern ({error})."
        ) from error
    if pattern.startswith("!"):
        return lambda key: match(key) is not None
    return lambda key: match(key) is not None and (key == glob or not is_credentials(key))


def _excluding(key: str) -> str:
    """The pattern that leaves out a key and nothing else, quoted for YAML."""
    return json.dumps(f"!{escape(key)}", ensure_ascii=not key.isprintable())


def _unsafe(key: str) -> str | None:
    """Reason for which a key is not safe to write, if there is one."""
    parts = key.split("/")
    if key.startswith("/"):
        return "is an absolute path"
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty, '.' or '..' part"
    if "\\" in key or not key.isprintable():
        return "has a backslash or a character that cannot be printed"
    if any(part.startswith(TEMPORARY) for part in parts) or key == INVENTORY:
        return "is a name that the mirror uses for itself"
    return None


def some(keys: Sequence[str], count: int) -> str:
    """The first `count` keys, and how many more there are."""
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(keys[:count]) + more
