"""Tools for maintainers. They are not installed: run them from the repository."""
