"""Small tables in the City's format, and the check of a refusal."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h3
import pytest

from capetown.errors import CapetownError

# The cells of two of the City's known answers, and a neighbour of the first.
CELLS = ("88ad360225fffff", "88ad36022dfffff", "88ad361133fffff")
INSIDE = ("-33.872839", "18.522488")
INSIDE_CELL = "88ad360225fffff"
# A cell that the City's file lacks, 78 m from its hexagons.
OUTSIDE = ("-34.044257", "18.774378")
OUTSIDE_CELL = "88ad36c629fffff"
HEADER = [
    "notification_number", "reference_number", "creation_timestamp", "completion_timestamp",
    "directorate", "department", "branch", "section", "code_group", "code", "cause_code_group",
    "cause_code", "official_suburb", "latitude", "longitude",
]  # fmt: skip


def request(number: str, at: tuple[str, str] = INSIDE, **values: str) -> dict[str, str]:
    """Return a request's columns as text. Empty values are missing."""
    filled = {
        "notification_number": number, "creation_timestamp": "2020-10-07 06:55:18+02:00",
        "completion_timestamp": "2020-10-08 18:55:18+02:00", "directorate": "WATER AND SANITATION",
        "department": "Distribution Services", "branch": "Reticulation", "section": "Distribution",
        "code_group": "SEWER", "code": "Sewer: Blocked/Overflow",
        "official_suburb": "MONTAGUE GARDENS", "latitude": at[0], "longitude": at[1],
    }  # fmt: skip
    return dict.fromkeys(HEADER, "") | filled | values


def text(rows: Iterable[Mapping[str, str]], header: Iterable[str] = HEADER) -> str:
    """Return the rows as CSV without quotes."""
    columns = list(header)
    lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]
    return "\n".join(lines) + "\n"


def write_gzip(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data, mtime=0))
    return path


def feature(cell: str, **properties: Any) -> dict[str, Any]:
    """Return a hexagon as a GeoJSON feature with h3's polygon."""
    ring = [[longitude, latitude] for latitude, longitude in h3.cell_to_boundary(cell)]
    latitude, longitude = h3.cell_to_latlng(cell)
    return {
        "type": "Feature",
        "properties": {"index": cell, "centroid_lat": latitude, "centroid_lon": longitude}
        | properties,
        "geometry": {"type": "Polygon", "coordinates": [[*ring, [*ring[0]]]]},
    }


def collection(features: list[dict[str, Any]], crs: str = "urn:ogc:def:crs:OGC:1.3:CRS84") -> Any:
    named = {"type": "name", "properties": {"name": crs}}
    return {"type": "FeatureCollection", "crs": named, "features": features}


def write_hexagons(path: Path, cells: Iterable[str] = CELLS) -> Path:
    path.write_text(json.dumps(collection([feature(cell) for cell in cells])))
    return path


@contextmanager
def refused(path: Path, where: str, what: str) -> Iterator[pytest.ExceptionInfo[CapetownError]]:
    """Expect an error of one line that says where it is in a file, and how to fix it."""
    with pytest.raises(CapetownError) as error:
        yield error
    assert error.value.where == (f"{path}: {where}" if where else str(path))
    assert what in error.value.what
    assert error.value.fix
    assert "\n" not in str(error.value)
