"""Predict a shard of tiles: the same function in every thread and process.

A few threads read, decode and resize tiles ahead of the model.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import h3
import numpy as np
import pyarrow as pa
import shapely
import torch

from capetown.city import RESOLUTION
from capetown.errors import CapetownError, one_line
from capetown.imagery.georeference import (
    Georeference,
    GeoreferenceError,
    find_georeference,
    outline,
    tags_of_file,
)
from capetown.imagery.reading import Pixels, UnreadableTileError, read_raster, resize, to_rgb
from capetown.imagery.reducing import reduce_raster
from capetown.imagery.tiff import MAX_BYTES, TooLargeError
from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import MIN_DATA, Orthophoto, open_image
from capetown.pools.dataset.appearance import Appearance, describe
from capetown.pools.dataset.drift import deviation, profile_of
from capetown.pools.dataset.tile_names import georeference_by_name
from capetown.pools.metrics import calibrated
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.model.saliency import Points
from capetown.pools.prediction.engine import LoadedModel, ready_model
from capetown.pools.prediction.predictions import as_table
from capetown.pools.prediction.shards import write_shard
from capetown.storage import is_local, open_storage

# Threads that read for a shard: enough to hide the latency of a bucket, or of a disk.
READERS, DISK_READERS = 8, 2
T = TypeVar("T")
R = TypeVar("R")


class Job(NamedTuple):
    """The settings that all shards share.

    Attributes:
        model: the model's folder, a path or URL; `digest` is that of its files.
        crs: for tiles whose files name none; empty for none.
        folder: where shards are written.
        saliency: find the most influential point of each tile predicted to have a pool.
        compiled: as in `ready_model`. It depends on all tiles of a run, so that all processes
            choose alike, and a resumed run chooses as the interrupted one did.
    """

    model: str
    digest: str
    device: str
    crs: str
    folder: str
    capetown: str
    saliency: bool = False
    compiled: bool = False


class PreparedTile(NamedTuple):
    """A tile as the model's input, and what its row needs.

    Attributes:
        drift: how it differs from the training data; empty if it does not.
        width: of the file or window, in pixels, like the height.
        georeference: None if it has none.
        location_source: ``georeference``, ``name``, or empty without a georeference.
        location_error: why the georeference or the name is unusable; empty if it is usable.
        data: the share of a window's pixels that are not nodata; 1 for a whole file.
    """

    pixels: Pixels
    drift: str
    width: int
    height: int
    georeference: Georeference | None
    location_source: str
    location_error: str
    data: float


def make_shard(job: Job, number: int, tiles: Sequence[TileRef]) -> int:
    """Predict some tiles and write their shard; returns its number.

    Raises:
        CapetownError: the model cannot be used, the shard cannot be written, or this process has
            another version of the package.
    """
    if (here := version("capetown")) != job.capetown:
        raise CapetownError(f"a worker has capetown {here}", fix=f"install {job.capetown} there")
    # Shards are computed side by side, so more threads for one only slow down the others.
    torch.set_num_threads(1)
    model = ready_model(job.model, job.digest, job.device, compiled=job.compiled)
    write_shard(job.folder, number, _predict(model, tiles, job))
    return number


def _predict(model: LoadedModel, tiles: Sequence[TileRef], job: Job) -> pa.Table:
    """The rows of tiles, in order; windows with little data are only counted."""
    rows: list[dict[str, object]] = []
    empty = 0
    rasters = OpenRasterCache()
    local = all(is_local(open_storage(tile.url)[0]) for tile in tiles)
    # More threads would decode the same blocks of an orthophoto again.
    readers = 1 if any(tile.window for tile in tiles) else DISK_READERS if local else READERS
    with ThreadPoolExecutor(readers) as pool:

        def read(tile: TileRef) -> PreparedTile | str | None:
            return prepare(tile, model.manifest, job.crs, rasters)

        pairs = zip(tiles, _in_order(pool, read, iter(tiles), model.batch + READERS), strict=True)
        while batch := list(islice(pairs, model.batch)):
            prepared = [result for _, result in batch if isinstance(result, PreparedTile)]
            outputs = _infer(model, prepared, saliency=job.saliency)
            for tile, result in batch:
                if isinstance(result, PreparedTile):
                    rows.append(_row(tile.path, result, *next(outputs), model.manifest))
                elif result is not None:
                    rows.append({"path": tile.path, "error": result})
                empty += result is None
        pool.submit(rasters.close).result()
    return as_table(rows, empty)


class OpenRasterCache(ExitStack):
    """The orthophoto that was opened last. The thread that opened it must close it."""

    _image: Orthophoto | None = None

    def get(self, tile: TileRef) -> Orthophoto:
        """The orthophoto of a window; `UnreadableTileError` if it cannot be opened."""
        if self._image is None or self._image.source.url != tile.url:
            self._image = None
            self.close()
            self._image = self.enter_context(open_image(tile))
        return self._image


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterator[T], ahead: int
) -> Iterator[R]:
    """A function's results in the order of the items, at most `ahead` of the consumer."""
    waiting = deque(pool.submit(function, item) for item in islice(items, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(items, 1))


def prepare(
    tile: TileRef, manifest: ModelManifest, crs: str, rasters: OpenRasterCache
) -> PreparedTile | str | None:
    """A tile as the model's input; why it is unreadable; or None for a window with little data."""
    try:
        if tile.error:
            return tile.error
        share = 1.0
        if tile.window:
            image = rasters.get(tile)
            if (share := image.share_of_data(tile.window)) < MIN_DATA:
                return None
            raster = image.read(tile.window)
        else:
            data = _fetch(tile)
            raster = read_raster(BytesIO(data))
        height, width = raster.values.shape[:2]
        georeference, location_source, location_error = None, "", ""
        try:
            if tile.window:
                stored, size = image.place(crs), (image.dataset.width, image.dataset.height)
            else:
                stored = find_georeference(tags_of_file(data), tile.sidecars, crs)
                stored = stored and stored.upright(raster.orientation, width, height)
                size = width, height
            named = None if stored else _by_name(tile, *size, manifest)
            georeference = stored or named
            location_source = "name" if named else "georeference" if stored else ""
            if georeference and tile.window:
                georeference = georeference.part(tile.window.left, tile.window.top)
        except GeoreferenceError as error:
            location_error = str(error)
        pixels = to_rgb(reduce_raster(raster, manifest.reduced_to or 0), manifest.tiles)
        profile = profile_of(pixels, raster.side or max(height, width), raster.resolution)
        resized = resize(pixels, manifest.image_size, manifest.interpolation)
        drift = deviation(profile, manifest.typical) or look(resized, manifest.appearance)
        return PreparedTile(
            resized, drift, width, height, georeference, location_source, location_error, share
        )
    except TooLargeError as error:
        return f"{error}; cut it into tiles with --tile-metres"
    except UnreadableTileError as error:
        return str(error)
    except Exception as error:  # each file system fails in its own way
        return f"cannot be fetched ({one_line(error)})"


def look(pixels: Pixels, appearance: Appearance | None) -> str:
    """How the colour or texture of a tile differs from training tiles; empty if it does not."""
    if appearance is None or (ratio := appearance.distances(describe([pixels]))[0]) <= 1:
        return ""
    return f"colour or texture: {ratio:.1f} times the usual distance from training tiles"


def _by_name(
    tile: TileRef, width: int, height: int, manifest: ModelManifest
) -> Georeference | None:
    """The georeference of a whole image by its name; None if the name gives none.

    Raises:
        GeoreferenceError: names like this are not right, or the image has another shape.
    """
    found = georeference_by_name(tile.url, width, height)
    if found and manifest.training and manifest.training.names == "mismatch":
        raise GeoreferenceError("its name gives a location, but names did not fit in training")
    return found


def _fetch(tile: TileRef) -> bytes:
    if tile.size > MAX_BYTES:
        raise TooLargeError(f"{tile.size / 1e9:.1f} GB: larger than a tile")
    fs, location = open_storage(tile.url)
    if is_local(fs) and not Path(location).is_file():
        raise UnreadableTileError(
            "not a regular file" if Path(location).exists() else "no such file"
        )
    return bytes(fs.cat_file(location))


def _infer(
    model: LoadedModel, tiles: Sequence[PreparedTile], *, saliency: bool
) -> Iterator[tuple[float, Points | None]]:
    """Each tile's probability, and its most influential point in pixels, or None."""
    if not tiles:
        return
    pixels = np.stack([tile.pixels for tile in tiles])
    probabilities = calibrated(model.engine(pixels), model.manifest.temperature)
    points: list[Points | None] = [None] * len(tiles)
    pools = np.flatnonzero(probabilities >= model.manifest.threshold)
    if saliency and len(pools):
        for n, share in zip(pools.tolist(), model.points(pixels[pools]), strict=True):
            if np.isfinite(share).all():
                points[n] = (share * (tiles[n].width, tiles[n].height)).round(1)
    yield from zip(probabilities.tolist(), points, strict=True)


def _row(
    path: str, tile: PreparedTile, probability: float, point: Points | None, manifest: ModelManifest
) -> dict[str, object]:
    row: dict[str, object] = {
        "path": path,
        "probability": round(probability, 6),
        "decision": manifest.classes[int(probability >= manifest.threshold)],
        "drift": tile.drift or None,
        "location_error": tile.location_error or None,
        "data_share": round(tile.data, 4),
    }
    if point is not None:
        row |= {"saliency_x": point[0], "saliency_y": point[1]}
    if tile.georeference is None:
        return row
    try:
        found = outline(tile.georeference, tile.width, tile.height)
    except GeoreferenceError as error:
        return row | {"location_error": str(error)}
    if point is not None:
        [(longitude, latitude)] = tile.georeference.to_earth(point[None]).tolist()
        row |= {"saliency_longitude": longitude, "saliency_latitude": latitude}
    return row | {
        "location_source": tile.location_source,
        "h3_index": h3.latlng_to_cell(found.latitude, found.longitude, RESOLUTION),
        "longitude": found.longitude,
        "latitude": found.latitude,
        "geometry": shapely.to_wkb(found.polygon()),
    }
