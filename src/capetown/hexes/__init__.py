"""Service requests on H3 hexagons: the table, the City's cells, the join and its verdict.

The `transform` stage runs this room, and nothing here knows tiles. May import: the modules at the
top of the package.
"""
