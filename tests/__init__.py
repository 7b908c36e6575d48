"""The tests, laid out like the package, and their shared helpers."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
