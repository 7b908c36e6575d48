"""The tests, in the rooms of the package; what several rooms share lies here."""

import os
from pathlib import Path

# Threads that wait for each other must not keep the cores from the other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).parent.parent
