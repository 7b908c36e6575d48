"""Service requests on H3 hexagons: reading the table, joining it, and checking the result.

The `transform` stage runs this subpackage; the report reads its outputs. It knows nothing about
tiles. May import: the modules at the top of the package.
"""
