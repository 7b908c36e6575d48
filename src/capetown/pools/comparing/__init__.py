"""Experiments side by side on the same test tiles.

Run by `capetown compare` alone. May import: `pools.splits`, `pools.tiles`, `pools.scoring` and the
modules at the top of the package.
"""
