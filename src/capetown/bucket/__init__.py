"""Mirror a bucket, completely or not at all: `mirror` is the way in."""

from capetown.bucket.mirror import mirror
from capetown.bucket.retention import RetentionPolicy

__all__ = ["RetentionPolicy", "mirror"]
