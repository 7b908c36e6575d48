"""Mirror a bucket, completely or not at all: `mirror` is the way in."""

from capetown.bucket.keeping import Keeping
from capetown.bucket.mirror import mirror

__all__ = ["Keeping", "mirror"]
