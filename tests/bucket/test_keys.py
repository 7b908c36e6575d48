"""Keys are chosen by patterns, refused if unsafe, and compared with manifests."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capetown.bucket.keys import (
    MANIFESTS,
    Choice,
    check_keys,
    check_manifests,
    choose,
    read_manifest,
)
from capetown.errors import CapetownError
from tests.bucket.mirrors import NO, YES

KEYS = ["a.csv", "b.csv.gz", f"{NO}/N_1_1.tif", f"{NO}/N_1_2.tif", f"{NO}/manifest",
        f"{YES}/Y_1_1.tif", f"{YES}/Y_1_2.TIF", f"{YES}/Y_1_3.tif", f"{YES}/manifest"]  # fmt: skip


def of(*patterns: str) -> Choice:
    return Choice("requests", patterns)


@pytest.mark.parametrize(
    ("include", "max_tiles", "expected"),
    [
        (["**"], None, KEYS),
        (["*"], None, ["a.csv", "b.csv.gz"]),
        (["images/**"], None, KEYS[2:]),
        (["**", "!images/**"], None, ["a.csv", "b.csv.gz"]),
        (["!*.csv", "*"], None, ["b.csv.gz"]),
        (["**"], 1, [*KEYS[:3], f"{NO}/manifest", f"{YES}/Y_1_1.tif", f"{YES}/manifest"]),
        (["**/*_1_2.*"], 1, [f"{NO}/N_1_2.tif", f"{YES}/Y_1_2.TIF"]),
    ],
)
def test_patterns_choose_keys(
    include: list[str], max_tiles: int | None, expected: list[str]
) -> None:
    assert choose(reversed(KEYS), Choice("requests", include, max_tiles), "data") == expected


def test_patterns_of_tiles_choose_keys_in_their_folder() -> None:
    assert choose([*KEYS, "other.tif"], Choice("tiles", ["**", "!**/N_*"]), "data") == [
        f"{NO}/manifest", *KEYS[5:],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "choice", "what", "fix"),
    [
        ([], of("**"), "no requests in data, which is empty", "`download.requests: []`"),
        (KEYS, of("sr.csv.gz"), "no requests in data, which has a.csv, b", "`dvc repro evaluate`"),
        (KEYS, of("a.csv", "sr.csv.gz"), "'sr.csv.gz' matches no key", "correct the pattern"),
        (KEYS, of("!images/**"), "nothing is left", "begin with '**'"),
        (KEYS, of("a.csv", "!a.csv"), "nothing is left", "begin with '**'"),
        (KEYS, of("images/**x"), "is not a glob pattern", ""),
        (KEYS[:2], Choice("tiles", ["images/**"]), "no tiles in data", "`dvc repro transform`"),
        (KEYS, Choice("tiles", ["**/manifest"]), "no tiles in data", "`download.tiles: []`"),
    ],
)
def test_an_empty_choice_is_refused(keys: list[str], choice: Choice, what: str, fix: str) -> None:
    with pytest.raises(CapetownError) as error:
        choose(keys, choice, "data")
    assert error.value.where == choice.setting
    assert what in error.value.what
    assert fix in error.value.fix


@pytest.mark.parametrize(
    "key",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", "a\\..\\b", "a\0b", "a\nb",
     "inventory.csv", ".partial-journal", "a/.partial-1", ".partial-[1].tif", "./[!a]*", "!/../x"],
)  # fmt: skip
def test_an_unsafe_key_is_refused_and_can_be_excluded(key: str) -> None:
    keys = [key, "a.csv", "partial-1.tif", "x"]
    with pytest.raises(CapetownError) as error:
        check_keys(keys, of())
    assert error.value.where == f"key {key!r}"
    assert choose(keys, of("**", pattern_in(error.value)), "data") == keys[1:]


def pattern_in(error: CapetownError) -> str:
    """The pattern that an error says to add."""
    return str(json.loads(error.fix.split("adding ")[1].split(" to download.requests")[0]))


@pytest.mark.parametrize(
    "key",
    ["ds_code_challenge_creds.json", "a/Credentials.csv", "b/secret.txt", "id_rsa", "x/key.pem",
     ".env", "api_key.json", "passwords.xlsx"],
)  # fmt: skip
def test_credentials_need_their_exact_name(key: str) -> None:
    others, keys = ["sr.csv.gz", f"{YES}/TOKEN_1_1.tif"], ["sr.csv.gz", f"{YES}/TOKEN_1_1.tif", key]
    for pattern in ("**", f"{key[:-1]}?"):
        assert key not in choose(keys, of("sr.csv.gz", "images/**", pattern), "data")
    assert choose(keys, of("**", key), "data") == sorted(keys)
    for include in (["**"], ["**", key, f"!{key[:-1]}?"]):
        assert choose(keys, of(*include), "data") == sorted(others)


@given(st.text(min_size=1, max_size=20))
def test_a_key_that_passes_stays_within_its_folder(key: str) -> None:
    try:
        check_keys([key], of())
    except CapetownError:
        return
    assert os.path.normpath(f"/mirror/{key}") == f"/mirror/{key}"


def test_a_key_cannot_be_a_file_and_a_folder() -> None:
    with pytest.raises(CapetownError, match=r"^key 'a': cannot be a file beside 'a/b'"):
        check_keys(["a", "a/b"], of())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_manifest_may_be_saved_by_any_editor(encoding: str) -> None:
    text = "W35A_7_58.tif\r\n\n./Zoë_1_1.tif\nmanifest\n"
    assert read_manifest(text.encode(encoding)) == ["W35A_7_58.tif", "Zoë_1_1.tif"]


def test_missing_and_extra_tiles_are_found() -> None:
    texts = {MANIFESTS[0]: b"N_1_1.tif\nN_1_2.tif\n", MANIFESTS[1]: b"Y_1_1.tif\nY_1_3.tif\n"}
    assert check_manifests(KEYS, texts, of("**")) == [f"{YES}/Y_1_2.TIF"]
    texts[MANIFESTS[0]] += b"N_9_9.tif\n"
    with pytest.raises(CapetownError) as error:
        check_manifests(KEYS, texts, of("**"))
    assert str(error.value) == (
        f"{NO}/N_9_9.tif: not in the source, although a manifest names it (1 missing); ask the "
        f'bucket\'s owner, or exclude it by adding "!{NO}/N_9_9.tif" to download.requests'
    )
    # Excluded tiles are not missing. Brackets in a name do not make a pattern.
    assert check_manifests(KEYS, texts, of("**", "!**/N_9*")) == [f"{YES}/Y_1_2.TIF"]
    assert check_manifests(KEYS, texts, Choice("requests", ["**"], 2)) == [f"{YES}/Y_1_2.TIF"]
    texts = {MANIFESTS[0]: b"N_1_1.tif\nN_[12]_2.tif\n"}
    with pytest.raises(CapetownError) as error:
        check_manifests(KEYS[:5], texts, of("**"))
    chosen = of("**", pattern_in(error.value))
    assert check_manifests(KEYS[:5], texts, chosen) == [f"{NO}/N_1_2.tif"]
    assert choose(KEYS[:5], chosen, "data") == KEYS[:5]
