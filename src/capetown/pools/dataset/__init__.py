"""Labelled tiles: found, profiled, divided into folds, and decoded.

Run by `split`, `train` and `evaluate`. May import: `imagery`, `pools.metrics` and the modules at
the top of the package.
"""
