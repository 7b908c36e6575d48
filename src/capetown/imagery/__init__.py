"""Any image file as 8-bit RGB, and its location on Earth.

May import: the modules at the top of the package.
"""
