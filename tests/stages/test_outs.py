"""Outs are replaced all together, or not at all."""

import contextlib
from pathlib import Path

import pytest

from capetown.errors import CapetownError
from stages.outs import exchange, give_back, put_in_place

PATHS = [Path("models"), Path("metrics/plots"), Path("metrics/history.csv")]


def write(root: Path, text: str, *extra: str) -> None:
    for name in ("models/weights", "metrics/plots/roc.csv", "metrics/history.csv", *extra):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def contents() -> dict[str, str]:
    return {
        str(path): path.read_text()
        for top in ("models", "metrics")
        for path in sorted(Path(top).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_previous_outs_go_and_their_neighbours_stay() -> None:
    write(Path(), "old", "models/stale", "metrics/plots/stale/deep", "metrics/other.json")
    write(Path("made"), "new")
    exchange(PATHS, Path("made"), Path("last"))
    assert contents() == {
        "metrics/history.csv": "new",
        "metrics/other.json": "old",
        "metrics/plots/roc.csv": "new",
        "models/weights": "new",
    }


@pytest.mark.parametrize("missing", PATHS)
@pytest.mark.parametrize("before", [True, False])
def test_if_one_cannot_be_replaced_none_is(missing: Path, before: bool) -> None:
    if before:
        write(Path(), "old", "models/other")
    write(Path("made"), "new")
    (Path("made") / missing).rename("elsewhere")
    last = contents()
    with pytest.raises(FileNotFoundError):
        exchange(PATHS, Path("made"), Path("last"))
    assert contents() == last


@pytest.mark.parametrize("renames", range(7))
@pytest.mark.parametrize("before", [True, False])
def test_a_killed_exchange_can_be_undone(
    renames: int, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each of the renames: two per out, or one if there was none before."""
    write(Path(), "old")
    if not before:
        Path("metrics/history.csv").unlink()
    write(Path("made"), "new")
    last, done, rename = contents(), [0], Path.rename

    def killed(self: Path, target: Path) -> Path:
        if done[0] == renames:
            raise KeyboardInterrupt
        done[0] += 1
        return rename(self, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        exchange(PATHS, Path("made"), Path("last"))
    give_back(PATHS, Path("made"), Path("last"))
    assert contents() == last


def test_the_next_run_undoes_what_a_killed_one_left() -> None:
    """Also if it fails itself. The logs of experiments stay."""
    write(Path(), "old")
    last, killed, experiment = contents(), Path("logs/.outs-models-1"), Path("logs/models-finer")
    write(killed / "made", "new")
    for folder in (killed / "last", experiment):
        folder.mkdir()
    Path("models").rename(killed / "last" / "models")
    with pytest.raises(CapetownError), put_in_place(*PATHS):
        raise CapetownError("failed")
    assert contents() == last
    assert list(Path("logs").iterdir()) == [experiment]
