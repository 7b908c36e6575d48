"""Keys: which are chosen, which are refused, and what manifests say."""

import os
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from capetown.bucket.keys import MANIFESTS, check_keys, check_manifests, choose, read_manifest
from capetown.errors import CapetownError
from tests.bucket.mirrors import NO, YES

KEYS = ["a.csv", "b.csv.gz", f"{NO}/N_1_1.tif", f"{NO}/N_1_2.tif", f"{NO}/manifest",
        f"{YES}/Y_1_1.tif", f"{YES}/Y_1_2.TIF", f"{YES}/Y_1_3.tif", f"{YES}/manifest"]  # fmt: skip


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
    assert choose(reversed(KEYS), include, max_tiles) == expected


@pytest.mark.parametrize(
    ("keys", "include", "said"),
    [
        ([], ["**"], "holds no objects"),
        (KEYS, ["sr.csv.gz"], "'sr.csv.gz' matches no key"),
        (KEYS, ["!images/**"], "nothing is left of the source"),
        (KEYS, ["a.csv", "!a.csv"], "nothing is left of the source"),
        (KEYS, ["images/**x"], "is not a glob pattern"),
    ],
)
def test_a_choice_of_nothing_is_one_line(keys: list[str], include: list[str], said: str) -> None:
    with pytest.raises(CapetownError, match=re.escape(said)):
        choose(keys, include, None)


@pytest.mark.parametrize(
    "key",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", "a\\..\\b", "a\0b", "a\nb",
     "inventory.csv", ".partial-journal", "a/.partial-1"],
)  # fmt: skip
def test_a_key_that_leads_elsewhere_is_refused_by_name(key: str) -> None:
    with pytest.raises(CapetownError, match=re.escape(f"key {key!r}")):
        check_keys(["a.csv", key])


@pytest.mark.parametrize(
    "key",
    ["../x", "a//b", "a\0b", "a\nb", "inventory.csv", ".partial-[1].tif", "./[!a]*", "!/../x"],
)
def test_a_refused_key_is_left_out_as_the_message_says(key: str) -> None:
    keys = ["a.csv", key, "x", "partial-1.tif", "./b"]
    keys = [k for k in keys if k == key or not k.startswith("./")]
    with pytest.raises(CapetownError) as caught:
        check_keys(choose(keys, ["**"], None))
    told = re.search(r"adding (\".*\") to download.include", str(caught.value))
    assert told
    pattern = yaml.safe_load(told[1])
    assert choose(keys, ["**", pattern], None) == sorted(set(keys) - {key})


def test_a_missing_tile_with_brackets_is_left_out_as_the_message_says() -> None:
    texts = {MANIFESTS[0]: b"N_1_1.tif\nN_[12]_2.tif\n"}
    keys = [f"{NO}/N_1_1.tif", f"{NO}/N_1_2.tif", f"{NO}/manifest"]
    with pytest.raises(CapetownError) as caught:
        check_manifests(keys, texts, ["**"], None)
    told = re.search(r"adding (\".*\") and so on", str(caught.value))
    assert told
    pattern = yaml.safe_load(told[1])
    assert check_manifests(keys, texts, ["**", pattern], None) == [f"{NO}/N_1_2.tif"]
    assert choose(keys, ["**", pattern], None) == keys


SECRETS = [
    "ds_code_challenge_creds.json", "a/Credentials.csv", "b/secret.txt", "id_rsa", "x/key.pem",
    ".env", "api_key.json", "passwords.xlsx",
]  # fmt: skip


@pytest.mark.parametrize("key", SECRETS)
def test_credentials_come_by_their_own_name_only(key: str) -> None:
    keys = ["sr.csv.gz", f"{YES}/TOKEN_1_1.tif", key]
    for pattern in ("**", f"{key[:-1]}?"):
        assert key not in choose(keys, ["sr.csv.gz", "images/**", pattern], None)
    assert choose(keys, ["**"], None) == sorted(keys[:2])
    assert choose(keys, ["**", key], None) == sorted(keys)
    assert choose(keys, ["**", key, f"!{key[:-1]}?"], None) == sorted(keys[:2])


@given(st.text(min_size=1, max_size=20))
def test_a_key_that_passes_stays_within_its_folder(key: str) -> None:
    try:
        check_keys([key])
    except CapetownError:
        return
    inside = os.path.normpath(os.path.join("/mirror", key))  # noqa: PTH118
    assert inside == f"/mirror/{key}"


def test_a_key_cannot_be_a_file_and_a_folder() -> None:
    with pytest.raises(CapetownError, match="'a' and 'a/b' cannot both be files"):
        check_keys(["a", "a/b"])


def test_a_manifest_names_tiles_with_or_without_its_own_name_and_paths() -> None:
    assert read_manifest(b"b.tif\r\n\n./a.tif\nmanifest\n") == ["a.tif", "b.tif"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_manifest_may_be_saved_by_any_editor(encoding: str) -> None:
    names = ["W35A_7_58.tif", "Zoë_1_1.tif"]
    assert read_manifest("\r\n".join(names).encode(encoding)) == names


def test_manifests_tell_missing_and_extra_tiles() -> None:
    texts = {MANIFESTS[0]: b"N_1_1.tif\nN_1_2.tif\n", MANIFESTS[1]: b"Y_1_1.tif\nY_1_3.tif\n"}
    assert check_manifests(KEYS, texts, ["**"], None) == [f"{YES}/Y_1_2.TIF"]
    texts[MANIFESTS[0]] += b"N_9_9.tif\n"
    with pytest.raises(CapetownError, match=f"1 of the source's.*{NO}/N_9_9.tif"):
        check_manifests(KEYS, texts, ["**"], None)
    # Not asked for, so not missed.
    assert check_manifests(KEYS, texts, ["**", "!**/N_9*"], None) == [f"{YES}/Y_1_2.TIF"]
    assert check_manifests(KEYS, texts, ["**"], 2) == [f"{YES}/Y_1_2.TIF"]
