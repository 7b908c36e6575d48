"""Cells of points: H3's own function as the oracle, up to the edges."""

import h3
import numpy as np
import polars as pl
import pytest

from capetown.requests.cells import EARTH, MARGIN, Floats, locate, prepare, texts, vectors

# Metres beside an edge.
BESIDE = (0, 1e-9, -1e-9, 1e-8, -1e-8, 1e-7, -1e-7, 1e-5, -1e-5, 0.5 * MARGIN, -2 * MARGIN)


def places(points: Floats) -> tuple[Floats, Floats]:
    """Latitudes and longitudes of vectors."""
    north = np.degrees(np.arctan2(points[..., 2], np.hypot(points[..., 0], points[..., 1])))
    return north.ravel(), np.degrees(np.arctan2(points[..., 1], points[..., 0])).ravel()


def around_edges(cells: list[str], seed: int) -> Floats:
    """Points at, and some nanometres to centimetres beside, corners and edges; as vectors."""
    rng = np.random.default_rng(seed)
    corners = np.array([h3.cell_to_boundary(cell) for cell in cells])
    start = vectors(corners[..., 0], corners[..., 1])
    end = np.roll(start, -1, axis=1)
    beside = np.cross(start, end)
    beside /= np.linalg.norm(beside, axis=-1, keepdims=True)
    found = []
    for metres in BESIDE:
        part = rng.choice([0, rng.random(), 1], size=(len(cells), 6, 1))
        found.append(start * (1 - part) + end * part + beside * metres / EARTH)
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("latitude", "longitude", "resolution"),
    [(-33.9, 18.5, 8), (40.7, -74.0, 9), (0.05, -78.5, 8), (64.1, -21.9, 7), (-16.8, 179.98, 8)],
)
def test_cells_are_h3s_own_at_every_edge(
    latitude: float, longitude: float, resolution: int
) -> None:
    middle = h3.latlng_to_cell(latitude, longitude, resolution)
    disk = [cell for cell in h3.grid_disk(middle, 6) if len(h3.cell_to_boundary(cell)) == 6]
    north, east = places(around_edges(disk, seed=resolution))
    expected = [h3.latlng_to_cell(*point, resolution) for point in zip(north, east, strict=True)]
    for known in (disk, disk[::2], [middle]):
        cells = prepare(pl.Series(known), resolution)
        found, position = locate(north, east, cells)
        assert texts(found).to_list() == expected
        inside = [cell if cell in known else None for cell in expected]
        assert [cells.index[at] if at >= 0 else None for at in position.tolist()] == inside


def test_most_points_need_no_call_of_h3(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    disk = h3.grid_disk("88ad360225fffff", 20)
    centres = np.array([h3.cell_to_latlng(cell) for cell in h3.grid_disk("88ad360225fffff", 15)])
    points = (centres[:, None] + rng.normal(0, 0.002, (len(centres), 50, 2))).reshape(-1, 2)
    calls: list[tuple[float, float]] = []
    own = h3.latlng_to_cell
    expected = [own(*point, 8) for point in points.tolist()]
    monkeypatch.setattr(h3, "latlng_to_cell", lambda *a: calls.append(a[:2]) or own(*a))  # type: ignore[func-returns-value]
    found, _ = locate(points[:, 0], points[:, 1], prepare(pl.Series(disk), 8))
    assert texts(found).to_list() == expected
    assert calls == []


def test_what_is_no_place_on_earth_has_no_cell() -> None:
    cells = prepare(pl.Series(["88ad360225fffff"]), 8)
    latitude = np.array([np.nan, 90.0001, -90.0001, 0, np.inf, -90, -33.872839])
    longitude = np.array([0, 0, 0, 180.0001, np.nan, 180, 18.522488])
    found, position = locate(latitude, longitude, cells)
    assert found[:5].tolist() == [0] * 5
    assert texts(found[5:]).to_list() == [h3.latlng_to_cell(-90, 180, 8), "88ad360225fffff"]
    assert position.tolist() == [-1] * 6 + [0]


def test_a_cell_with_more_than_six_corners_is_left_to_h3() -> None:
    near = h3.grid_disk(h3.get_pentagons(7)[0], 60)
    odd = next(cell for cell in near if len(h3.cell_to_boundary(cell)) > 6)
    middle = np.array([h3.cell_to_latlng(odd)])
    points = np.concatenate([middle, np.array(h3.cell_to_boundary(odd))])
    found, position = locate(points[:, 0], points[:, 1], prepare(pl.Series([odd]), 7))
    expected = [h3.latlng_to_cell(*point, 7) for point in points.tolist()]
    assert texts(found).to_list() == expected
    assert (position >= 0).tolist() == [cell == odd for cell in expected]
