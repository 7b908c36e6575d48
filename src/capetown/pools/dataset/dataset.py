"""Labelled tiles, decoded and ready for training or evaluation."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median_low

import numpy as np
import numpy.typing as npt
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED, Pixels
from capetown.params import BandRendering, GroupsSource
from capetown.pools.dataset.drift import TileProfile, TypicalProfile, typical_profile
from capetown.pools.dataset.name_check import Verdict
from capetown.pools.dataset.pixel_cache import cached_pixels

FIX = "run `dvc repro split`"


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles in the order of their table.

    Attributes:
        paths: relative to the folder that they were read from.
        sheets: the map sheet of each tile.
        groups: the group of neighbours of each tile. Confidence intervals resample groups.
        labels: int64, shape (tiles,), indices in `CLASSES`.
        pixels: uint8, shape (tiles, size, size, 3).
        digest: covers the tiles' pixels, how they are read, and the labels.
        groups_source: where the groups come from; ``none`` if the split is random.
        names: whether the tiles' names fit their pixels.
    """

    paths: list[str]
    sheets: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64]
    pixels: Pixels
    digest: str
    groups_source: GroupsSource = "none"
    names: Verdict = "unknown"

    def subset(self, chosen: npt.NDArray[np.bool_]) -> "LabelledTiles":
        """The tiles where a mask of shape (tiles,) is True. Copies their pixels into memory."""
        [rows] = np.nonzero(chosen)
        return LabelledTiles(
            paths=[self.paths[row] for row in rows],
            sheets=self.sheets[rows],
            groups=self.groups[rows],
            labels=self.labels[rows],
            pixels=self.pixels[rows],
            digest=sha256(f"{self.digest} {rows.tolist()}".encode()).hexdigest(),
            groups_source=self.groups_source,
            names=self.names,
        )


def load_fold(
    table: Path,
    name: str | None,
    root: Path,
    *,
    size: int,
    interpolation: str,
    cache: Path,
    rendering: BandRendering = AS_STORED,
) -> LabelledTiles:
    """Load the tiles of a fold.

    Args:
        table: the CSV file that `split` writes: path, label, sheet, group, fold, digest,
            groups_source and names.
        name: of the fold; None loads all tiles.
        root: the folder that the paths are relative to.
        size: see `cached_pixels`, as for `interpolation`, `cache` and `rendering`.
        interpolation: how tiles are resized.
        cache: folder of decoded tiles.
        rendering: how tiles are read.

    Raises:
        CapetownError: the table is missing, a class has no tile, a tile cannot be read, or the
            cache cannot be written.
    """
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise CapetownError("no such file", where=table, fix=FIX) from error
    if name is not None:
        rows = rows[rows["fold"] == name]
    for label in CLASSES:
        if not (rows["label"] == label).any():
            fold = f" in fold {name}" if name else ""
            raise CapetownError(f"no `{label}` tile{fold}", where=table, fix=FIX)
    contents = sha256("".join(rows["digest"]).encode()).hexdigest()
    files = [root / path for path in rows["path"]]
    return LabelledTiles(
        paths=list(rows["path"]),
        sheets=rows["sheet"].to_numpy(dtype=str),
        groups=rows["group"].to_numpy(dtype=str),
        labels=rows["label"].map(CLASSES.index).to_numpy(dtype=np.int64),
        pixels=cached_pixels(files, contents, size, interpolation, cache, rendering),
        digest=sha256(f"{contents} {list(rows['label'])} {rendering}".encode()).hexdigest(),
        groups_source=rows["groups_source"].iloc[0],
        names=rows["names"].iloc[0],
    )


def fold_profile(table: Path, name: str) -> tuple[TypicalProfile, int | None]:
    """The typical profile of a fold in `split`'s table, and the side its tiles were reduced to.

    The side is that of most tiles; None if most are originals.
    """
    rows = pd.read_csv(table, keep_default_na=False).query("fold == @name")
    profiles = [
        TileProfile(*row) for row in rows[list(TileProfile._fields)].itertuples(index=False)
    ]
    return typical_profile(profiles), int(median_low(rows["reduced_to"])) or None


def validity(table: Path) -> str:
    """What the test fold of `split`'s table stands for: the metrics are for such tiles.

    A sheet has one light and season, and neighbours show the same roads and roofs, so a model does
    better the nearer the test tiles are to the training tiles.
    """
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    source = rows["groups_source"].iloc[0]
    test, others = rows[rows["fold"] == "test"], rows[rows["fold"] != "test"]
    if source == "none" or test["group"].isin(others["group"]).any():
        return "tiles next to those it was trained on"
    if source in ("table", "folders"):
        return "new groups of tiles"
    if source == "names" and not test["sheet"].isin(others["sheet"]).any():
        return "new map sheets"
    return "tiles between those it was trained on"
