"""The report: what was asked, what was found, how sure it is, and what to do next.

`facts` is what it is made from, and `service` its part on the requests. `figures` are its charts,
`map_figure` its map, `pictures` its tiles and `blocks` its cards and controls, all in the look of
`theme`. `pages` puts them into one Markdown text, of a template a section, which is also the text
of the HTML page; `assets` are that page's style and scripts.
"""
