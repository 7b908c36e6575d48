"""Keys of a bucket: which are chosen, which are tiles, and which are safe to write to a disk."""

import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from glob import escape
from pathlib import PurePosixPath

from fsspec.utils import glob_translate

from capetown.city import CLASSES, MANIFEST, TILES_FOLDER
from capetown.errors import CapetownError

CLASS_FOLDERS = tuple(f"{TILES_FOLDER}/{name}" for name in CLASSES)
CLASS_PREFIXES = tuple(f"{folder}/" for folder in CLASS_FOLDERS)
MANIFESTS = tuple(f"{folder}/{MANIFEST}" for folder in CLASS_FOLDERS)

# Names that the mirror uses itself. No object can have them.
INVENTORY = "inventory.csv"
TEMPORARY = ".partial-"

# Names of credential files. The City's bucket contains one. A mirror would copy it into DVC's cache
# and push it from there.
CREDENTIALS = re.compile(
    r"[^/]*(cred|secret|passw|token|api_?key|id_rsa)[^/]*|[^/]*\.(pem|p12|pfx|key|env)|\.netrc",
    re.IGNORECASE,
)


def is_tile(key: str) -> bool:
    """True if a key is a tile of one of the classes, in its folder or below."""
    return key.lower().endswith((".tif", ".tiff")) and key.startswith(CLASS_PREFIXES)


def is_credentials(key: str) -> bool:
    """True if a key looks like a file of keys or passwords."""
    return not is_tile(key) and CREDENTIALS.fullmatch(PurePosixPath(key).name) is not None


def choose(keys: Iterable[str], include: Sequence[str], max_tiles: int | None) -> list[str]:
    """The keys that match `include`, sorted.

    Args:
        keys: all keys of a bucket.
        include: glob patterns. ``*`` stays within a folder, ``**`` crosses folders, and a leading
            ``!`` excludes. Credential files are only chosen by their exact name.
        max_tiles: the number of tiles per class, in the order of their names; None for all.

    Raises:
        CapetownError: there are no keys, none is chosen, or a pattern is wrong or matches none.
    """
    everything = sorted(set(keys))
    if not everything:
        raise CapetownError("the source has no objects", where="download.source", fix="correct it")
    for pattern in include:
        if not pattern.startswith("!") and not any(map(_matcher(f"!{pattern}"), everything)):
            raise CapetownError(
                f"{pattern!r} matches no key of the source, which has {some(everything, 5)}",
                where="download.include",
                fix="correct the pattern or remove it",
            )
    chosen = [key for key in everything if matches(key, include)]
    if not chosen:
        raise CapetownError(
            "nothing is left of the source after all patterns with '!'",
            where="download.include",
            fix="begin with '**'",
        )
    return _first_tiles(chosen, max_tiles)


def matches(key: str, include: Sequence[str]) -> bool:
    """True if `choose` would choose a key without a limit on tiles."""
    hits = [p for p in include if _matcher(p)(key)]
    return bool(hits) and not any(p.startswith("!") for p in hits)


def check_keys(keys: Sequence[str]) -> None:
    """Refuse keys that lead out of a folder, are reserved, or are both a file and a folder."""
    files = set(keys)
    for key in keys:
        if why := _unsafe(key):
            raise CapetownError(
                f"{why}, so nothing was fetched", where=f"key {key!r}", fix=excluding(key)
            )
        if parents := [str(p) for p in PurePosixPath(key).parents if str(p) in files]:
            raise CapetownError(
                f"cannot be a file beside {key!r}",
                where=f"key {parents[0]!r}",
                fix=excluding(parents[0]),
            )


def read_manifest(data: bytes) -> list[str]:
    """The tile names in a manifest, sorted. Blank lines, folders and its own name are dropped.

    It is UTF-8, or the UTF-16 that some editors save. A byte order mark or a zero byte in the first
    character identifies UTF-16.
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
    """Check that all tiles in the manifests were chosen, unless `include` excludes them.

    Returns:
        The chosen tiles that no manifest names, sorted.

    Raises:
        CapetownError: a tile that a manifest names is missing, or the manifest itself.
    """
    missing: list[str] = []
    extra: list[str] = []
    for folder, manifest in zip(CLASS_FOLDERS, MANIFESTS, strict=True):
        tiles = {key for key in chosen if is_tile(key) and key.startswith(f"{folder}/")}
        if manifest not in manifests:
            missing += [manifest] if tiles and matches(manifest, include) else []
            continue
        by_name = {PurePosixPath(key).name: key for key in tiles}
        names = read_manifest(manifests[manifest])
        named = sorted(by_name.get(name, f"{folder}/{name}") for name in names)
        asked = _first_tiles([key for key in named if matches(key, include)], max_tiles)
        missing += [key for key in asked if key not in tiles]
        extra += sorted(tiles - set(named))
    if missing:
        raise CapetownError(
            f"not in the source, although a manifest names it ({len(missing)} missing)",
            where=some(missing, 20),
            fix=f"ask the bucket's owner, or {excluding(missing[0])}",
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


@lru_cache
def _matcher(pattern: str) -> Callable[[str], bool]:
    glob = pattern.removeprefix("!")
    try:
        match = re.compile(glob_translate(glob)).match
    except (ValueError, re.error) as error:
        raise CapetownError(
            f"{pattern!r} is not a glob pattern ({error})", where="download.include"
        ) from error
    if pattern.startswith("!"):
        return lambda key: match(key) is not None
    return lambda key: match(key) is not None and (key == glob or not is_credentials(key))


def excluding(key: str) -> str:
    """How to exclude a key and nothing else. The pattern is quoted for YAML."""
    pattern = json.dumps(f"!{escape(key)}", ensure_ascii=not key.isprintable())
    return f"exclude it by adding {pattern} to download.include"


def _unsafe(key: str) -> str | None:
    """The reason why a key is not safe to write; None if it is safe."""
    parts = key.split("/")
    if key.startswith("/"):
        return "is an absolute path"
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty, '.' or '..' part"
    if "\\" in key or not key.isprintable():
        return "has a backslash or an unprintable character"
    if any(part.startswith(TEMPORARY) for part in parts) or key == INVENTORY:
        return "is a name that the mirror uses itself"
    return None


def some(keys: Sequence[str], count: int) -> str:
    """The first `count` keys, and the number of the others."""
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(keys[:count]) + more
