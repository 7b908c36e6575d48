"""What QGIS shows of a layer, without a screen. QGIS belongs to the system's Python."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.programs import missing

PYTHON = Path("/usr/bin/python3")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "QT_QPA_PLATFORM": "offscreen"}
SCRIPT = """
import json, sys
from qgis.core import *
from qgis.PyQt.QtCore import QSize

application = QgsApplication([], False)
application.initQgis()
layer = QgsVectorLayer(sys.argv[1], "layer", "ogr")
renderer = layer.renderer()
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setDestinationCrs(layer.crs())
settings.setExtent(layer.extent())
settings.setOutputSize(QSize(99, 99))
job = QgsMapRendererSequentialJob(settings)
job.start()
job.waitForFinished()
print(json.dumps({
    "valid": layer.isValid(), "count": layer.featureCount(), "crs": layer.crs().authid(),
    "column": renderer.classAttribute(),
    "classes": [[c.label(), c.symbol().color().name()] for c in renderer.ranges()],
    "labels": [c and c.label() for c in map(renderer.rangeForValue, map(float, sys.argv[2:]))],
    "middle": job.renderedImage().pixelColor(49, 49).name(),
}))
"""


def opened(path: Path, *values: float) -> dict[str, Any]:
    """The layer with its default style, the classes of values, and the colour in its middle.

    Without QGIS, skip, or fail in CI.
    """
    has_qgis = [str(PYTHON), "-c", "import qgis.core"]
    if not PYTHON.exists() or subprocess.run(has_qgis, check=False, capture_output=True).returncode:
        missing("QGIS", "apt-get install python3-qgis")
    command = [str(PYTHON), "-c", SCRIPT, str(path), *map(str, values)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ogrinfo(path: Path, layer: str) -> str:
    """What the system's GDAL, older than ours, says of a layer; skip or fail without it."""
    try:
        command = ["ogrinfo", "-ro", "-so", str(path), layer]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    except FileNotFoundError:
        missing("ogrinfo", "apt-get install gdal-bin")
    return done.stdout + done.stderr
