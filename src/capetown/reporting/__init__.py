"""The report: what was asked, what was found, how sure it is, and what to do next.

`facts` is what it is made from, `figures` its charts, `pictures` its tiles, and `pages` puts them
into one Markdown text, which is also the text of the HTML page.
"""
