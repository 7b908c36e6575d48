"""Images as 8-bit RGB, and their georeference.

May import: the modules at the top of the package.
"""
