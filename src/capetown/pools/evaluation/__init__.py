"""Evaluation of a classifier on the test fold, and the tiles that show where it fails.

Run by `evaluate` alone. May import: `pools.model`, `pools.tiles`, `pools.scoring` and the
modules at the top of the package.
"""
