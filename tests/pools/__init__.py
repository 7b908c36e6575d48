"""The pools' tests, and what several of them share."""

from capetown.pools.tiles.unlike import Usual

# What most tiles look like that the tests' models learned from.
USUAL = Usual(side=40, resolution=0.0, dark=False, grey=False)
