"""Mirror a bucket, completely or not at all: `mirror` is the way in."""

from capetown.bucket.mirror import Selection, mirror
from capetown.bucket.sources import Access

__all__ = ["Access", "Selection", "mirror"]
