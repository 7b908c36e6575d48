"""The params file: values that are accepted, and one line for each that is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from capetown.errors import CapetownError
from capetown.params import load_params
from tests import ROOT

PARAMS = ROOT / "params.yaml"


def write(folder: Path, key: str, value: Any) -> Path:
    """Copy the project's params, and set one dotted key. `None` removes it."""
    values = yaml.safe_load(PARAMS.read_text())
    *sections, last = key.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[last] = value
    if value is None:
        del section[last]
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "resnet", "backbones: lite, convnext_tiny, convnext_tiny_384, convnext_small_"),
        ("seed", None, "seed: Field required"),
        ("pretrained", "yes", "pretrained: Input should be a valid boolean"),
        ("seed", -1, "seed: Input should be greater than or equal to 0"),
        ("seed", 2**32, "seed: Input should be less than 4294967296"),
        ("sed", 1, "sed: unknown key"),
        ("train.interpolation", "cubic", "train.interpolation: Input should be 'nearest', 'box'"),
        ("train.mean", [0.5, 0.5], "train.mean: List should have at least 3 items"),
        ("train.mean", [0.5, 0.5, 127], "train.mean.2: Input should be less than or equal to 1"),
        ("train.std", [0.5, 0.5, 0], "train.std.2: Input should be greater than 0"),
        ("transform.error_threshold", 1.5, "transform.error_threshold: Input should be less than"),
        ("transform.error_treshold", 0.1, "transform.error_treshold: unknown key"),
        ("split.strategy", "grid", "split.strategy: Input should be 'block', 'sheet' or 'random'"),
        ("backbones.lite.batch_size", 0, "backbones.lite.batch_size: Input should be greater"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_key(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    path = write(tmp_path, key, value)
    with pytest.raises(CapetownError) as raised:
        load_params(path)
    assert raised.value.where == str(path)
    assert message in raised.value.what
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", ["5e-05", "5E-05", "5.0e-05", "0.00005"])
def test_dvcs_notation_of_numbers_is_accepted(tmp_path: Path, number: str) -> None:
    """`-S backbones.caformer.learning_rate=5e-5` puts `5e-05` into the file."""
    path = tmp_path / "params.yaml"
    text = PARAMS.read_text().replace("0.00005", number).replace("model: lite", "model: caformer")
    path.write_text(text)
    assert load_params(path).backbone.learning_rate == 5e-5


@pytest.mark.parametrize(
    ("content", "what"),
    [
        *((text, "") for text in (b"", b"model", b"model: [", b"- 1")),
        (b"# caf\xe9\n", "not UTF-8"),
        (None, "No such file"),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CapetownError) as raised:
        load_params(path)
    assert raised.value.where == str(path)
    assert what in raised.value.what
