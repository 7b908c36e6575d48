"""The tests, in the rooms of the package; what several rooms share lies here."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
