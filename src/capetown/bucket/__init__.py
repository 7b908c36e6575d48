"""Mirror a bucket, completely or not at all: `mirror` is the way in."""

from capetown.bucket.access import Access
from capetown.bucket.keeping import Keeping
from capetown.bucket.mirror import Selection, mirror

__all__ = ["Access", "Keeping", "Selection", "mirror"]
