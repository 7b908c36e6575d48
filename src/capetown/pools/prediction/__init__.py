"""A trained model on new tiles: from files, folders, buckets or orthophotos to a map of pools.

``capetown predict`` writes a row a tile, in the order of its input, as CSV or as GeoParquet (1.1,
longitude first, OGC:CRS84). The columns, all of which may be null but `path`:

- `path`, text: the file as it was asked for; of a window cut from an orthophoto it ends in
  ``#xywh=LEFT,TOP,WIDTH,HEIGHT``, in pixels (a W3C media fragment).
- `probability`, number: that there is a pool, calibrated, of six decimals.
- `decision`, text: ``yes`` or ``no``, by the model's threshold.
- `error`, text: why the tile cannot be read; then the two above are null.
- `unlike`, text: how the tile differs from those that the model learned from.
- `place_error`, text: why what says its place cannot be used; null, too, if nothing says it.
- `h3_index`, text: the H3 cell of resolution 8 (`capetown.city.RESOLUTION`) of the tile's centre.
- `longitude`, `latitude`, number: the tile's centre in WGS84.
- `evidence_x`, `evidence_y`, number: with ``--evidence``, of a tile with a pool, the point that
  says most for it: pixels of the file or the window from its left and upper edge.
- `evidence_longitude`, `evidence_latitude`, number: that point in WGS84.
- `geometry`: the tile's outline in WGS84, a polygon; WKB in Parquet, WKT in CSV.
"""
