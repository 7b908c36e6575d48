"""Predictions for new tiles: from files, folders, buckets or orthophotos to a map of pools.

``capetown predict`` writes one row per tile, in the order of its input. The suffix of ``--out``
chooses the format (`capetown.layers`). All columns but `path` may be null:

- `path`, text: the file as it was given. A window of an orthophoto ends in
  ``#xywh=LEFT,TOP,WIDTH,HEIGHT``, in pixels (a W3C media fragment).
- `probability`, number: calibrated probability of a pool, six decimals.
- `decision`, text: ``yes`` or ``no``, by the model's threshold.
- `error`, text: why the tile cannot be read; probability and decision are null then.
- `drift`, text: how the tile differs from the training data; null if it does not.
- `location_source`, text: ``georeference``, or ``name`` for a tile without tags and sidecars whose
  name gives a location. Names are not used if those of the training tiles did not fit their pixels.
- `location_error`, text: why the georeference or the name cannot be used; null if it can, or if
  there is none.
- `data_share`, number: the share of a window's pixels that are not nodata. Windows below one half
  have no row and are counted. It is 1 for a whole file.
- `h3_index`, text: the H3 cell of the tile's centre, resolution 8 (`capetown.city.RESOLUTION`).
- `longitude`, `latitude`, number: the tile's centre in WGS84.
- `saliency_x`, `saliency_y`, number: with ``--saliency``, the most influential point of a tile
  predicted to have a pool, in pixels from the upper left corner of the file or window.
- `saliency_longitude`, `saliency_latitude`, number: that point in WGS84.
- `geometry`: the tile's outline in WGS84, in CSV as WKT. It is a polygon, or two if the tile
  crosses the antimeridian.

In CSV an apostrophe precedes a text that a spreadsheet would take for a formula, such as a path
that starts with ``=``. The other formats have the exact text.
"""
