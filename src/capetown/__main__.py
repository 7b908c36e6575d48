"""``python -m capetown``: the `capetown` command where none is on the path."""

from capetown.cli import main

main()
