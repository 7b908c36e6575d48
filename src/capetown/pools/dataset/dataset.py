"""A fold of labelled tiles, decoded and ready to train or judge on."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED, Pixels
from capetown.params import BandRendering
from capetown.pools.dataset.drift import TileProfile, TypicalProfile, typical_profile
from capetown.pools.dataset.pixel_cache import pack_rows, pack_tiles


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles in the order of their table.

    Attributes:
        paths: relative to the folder that they were read from.
        sheets: the map sheet of each.
        groups: what each is alike with, which intervals resample: its block or its sheet.
        labels: int64, shape (tiles,), indices in `CLASSES`.
        pixels: uint8, shape (tiles, size, size, 3).
        digest: of the tiles' pixels, how they are read, and the labels.
    """

    paths: list[str]
    sheets: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64]
    pixels: Pixels
    digest: str

    def subset(self, chosen: npt.NDArray[np.bool_]) -> "LabelledTiles":
        """The tiles that are chosen, a truth value a tile; their pixels in memory."""
        [rows] = np.nonzero(chosen)
        return LabelledTiles(
            paths=[self.paths[row] for row in rows],
            sheets=self.sheets[rows],
            groups=self.groups[rows],
            labels=self.labels[rows],
            pixels=self.pixels[rows],
            digest=sha256(f"{self.digest} {rows.tolist()}".encode()).hexdigest(),
        )


def load_fold(
    table: Path,
    name: str | None,
    root: Path,
    *,
    size: int,
    interpolation: str,
    cache: Path,
    rule: BandRendering = AS_STORED,
) -> LabelledTiles:
    """Read a fold.

    Args:
        table: the CSV file that `split` writes: path, label, sheet, group, fold, digest and the
            `Look` of each tile.
        name: the fold's; None reads all of them as one.
        root: what the paths are relative to.
        size: side in pixels of the square that each tile is resized to.
        interpolation: how, as timm names it.
        cache: where packs are kept; see `capetown.pools.dataset.pixel_cache`.
        rule: how tiles are read.

    Raises:
        CapetownError: if there is no table, a class has no tile, a tile cannot be read, or the
            cache not be written.
    """
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise CapetownError(f"{table}: no such file; run `dvc repro split`.") from error
    if name is not None:
        rows = rows[rows["fold"] == name]
    for label in CLASSES:
        if not (rows["label"] == label).any():
            where = f"fold {name} has" if name else "there is"
            raise CapetownError(f"{table}: {where} no `{label}` tile; run `dvc repro split`.")
    files = [root / path for path in rows["path"]]
    # The tiles themselves are read only where there is no pack of them yet.
    contents = _contents(rows)
    return LabelledTiles(
        paths=list(rows["path"]),
        sheets=rows["sheet"].to_numpy(dtype=str),
        groups=rows["group"].to_numpy(dtype=str),
        labels=rows["label"].map(CLASSES.index).to_numpy(dtype=np.int64),
        pixels=pack_tiles(files, contents, size, interpolation, cache, rule),
        digest=sha256(f"{contents} {list(rows['label'])} {rule}".encode()).hexdigest(),
    )


def keep_folds(
    table: pd.DataFrame,
    pixels: Pixels,
    rows: npt.NDArray[np.intp],
    *,
    interpolation: str,
    cache: Path,
    rule: BandRendering = AS_STORED,
) -> None:
    """Put each fold in the cache, so that `load_fold` need not decode its tiles again.

    Args:
        table: as in `load_fold`.
        pixels: uint8, shape (tiles, size, size, 3), in any order.
        rows: where in it each row of the table is.
        interpolation: how they were resized.
        cache: where packs are kept; see `capetown.pools.dataset.pixel_cache`.
        rule: how they were read.

    Raises:
        CapetownError: if the cache cannot be written.
    """
    for name in table["fold"].unique():
        chosen = (table["fold"] == name).to_numpy()
        pack_rows(pixels, rows[chosen], _contents(table[chosen]), interpolation, cache, rule)


def _contents(table: pd.DataFrame) -> str:
    return sha256("".join(table["digest"]).encode()).hexdigest()


def fold_profile(table: Path, name: str) -> TypicalProfile:
    """The usual look of a fold's tiles, by the table that `split` writes."""
    rows = pd.read_csv(table, keep_default_na=False).query("fold == @name")
    columns = rows[list(TileProfile._fields)].itertuples(index=False)
    return typical_profile([TileProfile(*row) for row in columns])
