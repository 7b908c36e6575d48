"""A trained model on new tiles, wherever they lie: files, folders or a bucket's prefix."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from torch import nn
from tqdm import tqdm

from capetown.errors import CapetownError
from capetown.files import one_line
from capetown.pools.model.inference import BATCH_SIZE, predict_logits
from capetown.pools.model.modelfile import ModelCard
from capetown.pools.scoring import calibrated
from capetown.pools.tiles.reading import (
    Pixels,
    UnreadableTileError,
    is_tile_name,
    look_at,
    resize,
)
from capetown.pools.tiles.unlike import difference

# Enough to hide the way to a bucket; decoding takes a fraction of what the model does.
READERS = 16
# Images that a folder may hold, and that can be read, but are no tiles by name.
OTHER_IMAGES = (".png", ".jpg", ".jpeg", ".jp2", ".webp", ".bmp", ".gif")

log = logging.getLogger("capetown")


class Prediction(NamedTuple):
    """A model's answer for a tile: the calibrated probability of a pool and the decision at the
    model's threshold, ``yes`` or ``no``, and in `unlike` how the tile differs from those that the
    model learned from, if it does; or, in `error`, why the tile cannot be read."""

    path: str
    probability: float | None = None
    decision: str | None = None
    error: str | None = None
    unlike: str | None = None


class NewTile(NamedTuple):
    """A file to look at: its path as asked for, and where a file system has it."""

    path: str
    fs: Any
    location: str


def find_new_tiles(paths: Sequence[str]) -> list[NewTile]:
    """The tiles at paths, in their order and sorted within each.

    A folder stands for all ``.tif`` and ``.tiff`` files in it, however deep, and in folders that
    links in it lead to; a file stands for itself. A
    bucket is read anonymously unless the environment has AWS credentials or names a profile; from
    another server than AWS's if the environment names one in ``AWS_ENDPOINT_URL``.

    Args:
        paths: files, folders, or URLs of either that fsspec understands.

    Raises:
        CapetownError: if there is nothing at a path, or no tile, or it cannot be listed.
    """
    found: list[NewTile] = []
    for path in paths:
        try:
            fs, root = url_to_fs(path, **_options(path))
            is_folder = fs.info(root)["type"] == "directory"
            every = _files(fs, root) if is_folder else [root]
        except FileNotFoundError as error:
            raise CapetownError(f"{path}: nothing there, or out of reach.") from error
        except Exception as error:  # every file system fails in its own way
            raise CapetownError(f"{path}: cannot be listed ({one_line(error)}).") from error
        tiles = sorted(filter(is_tile_name, every)) if is_folder else every
        images = [file for file in set(every) - set(tiles) if file.lower().endswith(OTHER_IMAGES)]
        others = f"{len(images)} other images are left out, which can be named one by one"
        if not tiles:
            raise CapetownError(f"{path}: no tile (*.tif) there{f'; {others}' if images else ''}.")
        if images:
            log.warning("%s: %s", path, others)
        is_url = "://" in path
        for file in tiles:
            shown = (
                fs.unstrip_protocol(file) if is_url else Path(path, Path(file).relative_to(root))
            )
            found.append(NewTile(str(shown), fs, file))
    return found


def _files(fs: Any, root: str) -> list[str]:
    """All files under a folder; of this machine's, also through links to folders, each once."""
    if not isinstance(fs, LocalFileSystem):
        return list(fs.find(root))
    found, seen = [], set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        found += [f"{folder}/{name}" for name in files]
    return found


def predict_tiles(
    model: nn.Module, card: ModelCard, tiles: Sequence[NewTile]
) -> Iterator[Prediction]:
    """Judge tiles batch by batch, in order, with a progress bar if this is a terminal.

    Args:
        model: on the device to use.
        card: its own; see `capetown.pools.model.modelfile.load_model`.
        tiles: as `find_new_tiles` gives them.
    """

    def read(tile: NewTile) -> tuple[Pixels, str] | str:
        if isinstance(tile.fs, LocalFileSystem) and not Path(tile.location).is_file():
            return "not a file that can be read."
        try:
            pixels, look = look_at(BytesIO(tile.fs.cat_file(tile.location)), card.tiles)
            small = resize(pixels, card.image_size, card.interpolation)
            return small, difference(look, card.usual)
        except UnreadableTileError as error:
            return str(error)
        except Exception as error:  # every file system fails in its own way
            return f"cannot be fetched ({one_line(error)})."

    with (
        ThreadPoolExecutor(READERS) as pool,
        tqdm(total=len(tiles), unit=" tiles", disable=None) as bar,
    ):
        for start in range(0, len(tiles), BATCH_SIZE):
            batch = tiles[start : start + BATCH_SIZE]
            images = list(pool.map(read, batch))
            pixels = [image[0] for image in images if not isinstance(image, str)]
            judged = iter(_probabilities(model, card, pixels))
            for tile, image in zip(batch, images, strict=True):
                if isinstance(image, str):
                    yield Prediction(tile.path, error=image)
                    continue
                probability = next(judged)
                decision = card.classes[int(probability >= card.threshold)]
                unlike = image[1] or None
                yield Prediction(tile.path, round(probability, 6), decision, unlike=unlike)
            bar.update(len(batch))


def _probabilities(model: nn.Module, card: ModelCard, pixels: list[Pixels]) -> list[float]:
    if not pixels:
        return []
    logits = predict_logits(model, np.stack(pixels), mean=card.mean, std=card.std, tta=card.tta)
    return [float(p) for p in calibrated(logits, card.temperature)]


def _options(path: str) -> dict[str, Any]:
    """fsspec's options for a path: anonymous access to a bucket without credentials."""
    known = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"} & set(os.environ)
    return {"anon": True} if path.startswith("s3://") and not known else {}
