"""A classifier as such: its backbone, its files, its device, its answers.

Run by `train`, `evaluate` and `capetown predict`. May import: `pools.tiles`, `pools.scoring` and
the modules at the top of the package.
"""
