"""Service requests on H3 hexagons: the table, the City's cells, the join and its verdict.

The `transform` stage runs this subpackage, and `report` its `service`: how many requests come and
how fast they are done. Nothing here knows tiles. May import: the modules at the top of the package.
"""
