"""Finding tiles, reading any of them as 8-bit RGB, and folds of them, decoded.

Run by `split`, `train` and `evaluate`. May import: the modules at the top of the package.
"""
