"""The pools' tests, and what several of them share."""

from capetown.pools.dataset.drift import TypicalProfile

# What most tiles look like that the tests' models learned from.
TYPICAL = TypicalProfile(side=40, resolution=0.0, dark=False, grey=False)
