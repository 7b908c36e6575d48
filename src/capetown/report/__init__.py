"""The report in HTML and Markdown, and the pages of comparisons and of doubtful labels.

`facts` holds the results of the other stages and `request_summary` the values about requests.
`*_charts` draw the charts, `request_map` and `pool_map` the two maps on the same `hexagon_map`.
`blocks` holds the other parts, `theme` the colours. `render` fills the templates, one per section,
and `pages` turns their Markdown into the HTML page, with the styles and scripts of `assets`.
"""
