"""Both products on one map: the tiles with a pool in each hexagon, beside its requests.

Run by `capetown pools`, by no stage. It reads what `capetown predict` and `transform` wrote, so it
needs no model. May import: `hexes` and the modules at the top of the package.
"""
