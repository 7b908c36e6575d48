"""Mirror a bucket completely or not at all. `mirror` is the entry point."""

from capetown.bucket.keys import Choice
from capetown.bucket.mirror import mirror
from capetown.bucket.retention import RetentionPolicy

__all__ = ["Choice", "RetentionPolicy", "mirror"]
