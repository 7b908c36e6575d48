"""A model's answers for a piece of a list of tiles: the same function in every process.

A few threads read, decode and resize tiles, while the model computes on those before.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import h3
import numpy as np
import pyarrow as pa
import shapely

from capetown.city import RESOLUTION
from capetown.errors import one_line
from capetown.imagery.georeference import (
    Georeference,
    GeoreferenceError,
    find_georeference,
    outline,
)
from capetown.imagery.reading import Pixels, UnreadableTileError, read_raster, resize, to_rgb
from capetown.imagery.reducing import reduce_raster
from capetown.imagery.tiff import MAX_BYTES, Raster, TooLargeError
from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import Orthophoto, open_image
from capetown.pools.dataset.drift import deviation, profile_of
from capetown.pools.metrics import calibrated
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.model.saliency import Points
from capetown.pools.prediction.loading import Model
from capetown.pools.prediction.schema import EMPTY, Row, as_table
from capetown.storage import is_local, open_storage, read_file

# Threads that read for a piece: enough to hide the way to a bucket, and a disk's, which is shorter.
# More of them only get in each other's way.
READERS, DISK_READERS = 8, 2
T = TypeVar("T")
R = TypeVar("R")


class PreparedTile(NamedTuple):
    """A tile as the model gets it, and what else its row says.

    Attributes:
        pixels: uint8, shape (size, size, 3).
        unlike: its difference from usual tiles; empty if there is none.
        width: in pixels, of the file or the window.
        height: likewise.
        place: where it lies; None if nothing says it.
        place_error: why what says it cannot be used; empty if it can.
    """

    pixels: Pixels
    unlike: str
    width: int
    height: int
    place: Georeference | None
    place_error: str


def predict_batch(
    model: Model, sources: Sequence[TileRef], crs: str, *, with_evidence: bool = False
) -> pa.Table:
    """The rows of some tiles, in their order; windows without any data have none and are counted.

    Args:
        model: as `ready_model` gives it.
        sources: as `capetown.pools.prediction.inputs.find_inputs` gives them, perhaps cut.
        crs: of tiles whose files name none; empty for none.
        with_evidence: find the point that says most for each tile with a pool.
    """
    rows: list[Row] = []
    empty = 0
    images = OpenImageCache()
    with ThreadPoolExecutor(_readers(sources)) as pool:

        def read(source: TileRef) -> PreparedTile | str | None:
            return prepare(source, model.card, crs, images)

        read_ahead = _in_order(pool, read, iter(sources), model.batch + READERS)
        pairs = zip(sources, read_ahead, strict=True)
        while batch := list(islice(pairs, model.batch)):
            seen = [found for _, found in batch if isinstance(found, PreparedTile)]
            probabilities = _probabilities(model, seen)
            points = _points(model, seen, probabilities, with_evidence)
            answers = zip(probabilities, points, strict=True)
            for source, found in batch:
                if isinstance(found, PreparedTile):
                    rows.append(_row(source, found, *next(answers), model.card))
                elif found is not None:
                    rows.append(Row(source.path, error=found))
                empty += found is None
        pool.submit(images.close).result()
    return as_table(rows).replace_schema_metadata({EMPTY: str(empty)})


def _readers(sources: Sequence[TileRef]) -> int:
    if any(source.window for source in sources):
        # Others would decode the same blocks of an image again.
        return 1
    here = all(is_local(open_storage(source.url)[0]) for source in sources)
    return DISK_READERS if here else READERS


def prepare(
    source: TileRef, card: ModelManifest, crs: str, images: "OpenImageCache"
) -> PreparedTile | str | None:
    """A tile as the model gets it; why it cannot be read; or None for a window without data."""
    try:
        if source.error:
            return source.error
        if source.window:
            image = images.get(source)
            raster = image.read(source.window)
            if raster is None:
                return None
            place, place_error = _placed(lambda: _part(image, source, crs))
        else:
            data = _fetch(source)
            raster = read_raster(BytesIO(data))
            place, place_error = _placed(lambda: _whole(data, source, crs))
            if place:
                height, width = raster.values.shape[:2]
                place = place.upright(raster.orientation, width, height)
        return _seen(raster, card, place, place_error)
    except TooLargeError as error:
        return f"{error} --tile-metres cuts it into tiles."
    except UnreadableTileError as error:
        return str(error)
    except Exception as error:  # every file system fails in its own way
        return f"cannot be fetched ({one_line(error)})."


class OpenImageCache:
    """The orthophoto that was opened last, until another is wanted."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._image: Orthophoto | None = None

    def get(self, source: TileRef) -> Orthophoto:
        """The image of a window.

        Raises:
            UnreadableTileError: the reason, if it cannot be opened.
        """
        if self._image is None or self._image.source.url != source.url:
            self.close()
            self._image = self._stack.enter_context(open_image(source))
        return self._image

    def close(self) -> None:
        """Close it, in the thread that opened it."""
        self._image = None
        self._stack.close()


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterator[T], ahead: int
) -> Iterator[R]:
    """What a function gives for items, in their order, at most so many ahead of who asks."""
    waiting = deque(pool.submit(function, item) for item in islice(items, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(items, 1))


def _fetch(source: TileRef) -> bytes:
    if source.size > MAX_BYTES:
        raise TooLargeError(f"{source.size / 1e9:.1f} GB: no tile.")
    fs, location = open_storage(source.url)
    if is_local(fs) and not Path(location).is_file():
        raise UnreadableTileError(
            "not a file that can be read." if Path(location).exists() else "no such file."
        )
    return bytes(fs.cat_file(location))


def _seen(
    raster: Raster, card: ModelManifest, place: Georeference | None, place_error: str
) -> PreparedTile:
    height, width = raster.values.shape[:2]
    pixels = to_rgb(reduce_raster(raster, card.reduced_to or 0), card.tiles)
    look = profile_of(pixels, raster.side or max(height, width), raster.resolution)
    small = resize(pixels, card.image_size, card.interpolation)
    return PreparedTile(small, deviation(look, card.typical), width, height, place, place_error)


def _placed(find: Callable[[], Georeference | None]) -> tuple[Georeference | None, str]:
    try:
        return find(), ""
    except GeoreferenceError as error:
        return None, str(error)
    except OSError as error:
        return None, f"the file beside it that says its place cannot be read ({one_line(error)})."


def _whole(data: bytes, source: TileRef, crs: str) -> Georeference | None:
    world, prj = (read_file(url) if url else None for url in (source.world, source.prj))
    return find_georeference(data, world, prj, crs)


def _part(image: Orthophoto, source: TileRef, crs: str) -> Georeference | None:
    place, window = image.place(crs), source.window
    return place.part(window.left, window.top) if place and window else None


def _probabilities(model: Model, seen: Sequence[PreparedTile]) -> list[float]:
    if not seen:
        return []
    logits = model.answer(np.stack([tile.pixels for tile in seen]))
    return [float(answer) for answer in calibrated(logits, model.card.temperature)]


def _points(
    model: Model, seen: Sequence[PreparedTile], probabilities: Sequence[float], wanted: bool
) -> list[Points | None]:
    """The point that says most for each tile with a pool, in pixels; None for others."""
    found: list[Points | None] = [None] * len(seen)
    pools = [n for n, answer in enumerate(probabilities) if answer >= model.card.threshold]
    if wanted and pools:
        shares = model.points(np.stack([seen[n].pixels for n in pools]))
        for n, share in zip(pools, shares, strict=True):
            if np.isfinite(share).all():
                found[n] = (share * (seen[n].width, seen[n].height)).round(1)
    return found


def _row(
    source: TileRef,
    seen: PreparedTile,
    probability: float,
    point: Points | None,
    card: ModelManifest,
) -> Row:
    row = Row(
        source.path,
        round(probability, 6),
        card.classes[int(probability >= card.threshold)],
        unlike=seen.unlike or None,
        place_error=seen.place_error or None,
    )
    if point is not None:
        row = row._replace(evidence_x=float(point[0]), evidence_y=float(point[1]))
    if seen.place is None:
        return row
    try:
        found = outline(seen.place, seen.width, seen.height)
    except GeoreferenceError as error:
        return row._replace(place_error=str(error))
    if point is not None:
        [(longitude, latitude)] = seen.place.to_earth(point[None]).tolist()
        row = row._replace(evidence_longitude=longitude, evidence_latitude=latitude)
    return row._replace(
        h3_index=h3.latlng_to_cell(found.latitude, found.longitude, RESOLUTION),
        longitude=found.longitude,
        latitude=found.latitude,
        geometry=shapely.to_wkb(shapely.orient_polygons(shapely.Polygon(found.corners))),
    )
