"""Plan of a run: what it has to fetch and to write, said before it does."""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capetown.bucket.retention import RetentionPolicy
from capetown.bucket.sources import Object
from capetown.bucket.verification import Entry
from capetown.errors import CapetownError

log = logging.getLogger("capetown")


@dataclass(frozen=True)
class Plan:
    """Objects of a run.

    Attributes:
        items: the chosen objects.
        missing: those that are not yet as they are to be kept.
        originals: files of those of `missing` that are at hand as they came.
        known: what was kept by earlier runs' accounts.
        keeping: what is to be kept.
    """

    items: Sequence[Object]
    missing: Sequence[Object]
    originals: Mapping[str, Path]
    known: Mapping[str, Entry]
    keeping: RetentionPolicy

    @property
    def fetched(self) -> list[Object]:
        """The objects that come from the source."""
        return [item for item in self.missing if item.key not in self.originals]

    @property
    def again(self) -> list[Object]:
        """The tiles that come again, since they were kept at another side."""
        return [
            item
            for item in self.fetched
            if (entry := self.known.get(item.key))
            and entry.etag == item.etag
            and entry.tile_side != self.keeping.side_of(item.key)
        ]

    @property
    def needed(self) -> int:
        """About how many bytes will be written."""
        return sum(map(self.keeping.expected_size, self.missing))

    @staticmethod
    def size(items: Iterable[Object]) -> int:
        """Bytes of objects in their source."""
        return sum(item.size for item in items)

    def announce(self, folder: Path) -> None:
        """Say what is about to be done, before it is.

        Args:
            folder: where it is written.

        Raises:
            CapetownError: if the disk has no room for it.
        """
        free = shutil.disk_usage(folder).free
        log.info(
            "%d objects, %.1f MB: %d (%.1f MB) to fetch, %d at hand; about %.1f MB to write, "
            "%.0f MB free",
            *(len(self.items), self.size(self.items) / 1e6),
            *(len(self.fetched), self.size(self.fetched) / 1e6),
            *(len(self.items) - len(self.fetched), self.needed / 1e6, free / 1e6),
        )
        if self.again:
            log.info(
                "%d tiles (%.1f MB) come again, since download.tile_side was another before",
                *(len(self.again), self.size(self.again) / 1e6),
            )
        if self.needed > free:
            raise CapetownError(
                f"{folder}: about {self.needed / 1e6:.0f} MB are to be written and "
                f"{free / 1e6:.0f} MB are free; make room, or choose less with download.include, "
                "download.max_tiles or download.tile_side."
            )
