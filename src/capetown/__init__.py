"""Cape Town's service requests on H3 hexagons, and swimming pools in aerial tiles."""

import os

# Threads of OpenMP, torch's among them, wait for each other by spinning unless they are told not to
# before torch is imported. Beside another busy process, spinning takes most of both cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
