"""The grid of the City's tiles, against published bounds of blocks of the same flight."""

from collections.abc import Iterator

import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capetown.city import TILE_CRS, Bounds, tile_bounds

# Published bounds of whole blocks: left, bottom, right, top.
BLOCKS = {
    "E07A_1": (0, -3771000, 1000, -3770000),
    "E07A_11": (0, -3773000, 1000, -3772000),
    "W06D_25": (-1000, -3770000, 0, -3769000),
    "W07B_1": (-5000, -3771000, -4000, -3770000),
    "W07C_25": (-6000, -3780000, -5000, -3779000),
    # Row 0 is north for the southern quarters and south for the northern ones.
    "W40C_1": (-50000, -3706000, -49000, -3705000),
    "W50D_25": (-51000, -3710000, -50000, -3709000),
    "W40A_13": (-48000, -3803000, -47000, -3802000),
    "W50B_5": (-51000, -3801000, -50000, -3800000),
}


def cells(block: str) -> Iterator[Bounds]:
    for cell in range(1, 101):
        found = tile_bounds(f"{block}_{cell}")
        assert found
        yield found


@pytest.mark.parametrize("block", BLOCKS)
def test_the_cells_of_a_block_fill_its_published_bounds(block: str) -> None:
    found = list(cells(block))
    assert len(set(found)) == 100
    assert all((b.right - b.left, b.top - b.bottom) == (100, 100) for b in found)
    outer = Bounds(
        min(b.left for b in found),
        min(b.bottom for b in found),
        max(b.right for b in found),
        max(b.top for b in found),
    )
    assert outer == BLOCKS[block]


def test_a_tile_has_its_published_coordinates() -> None:
    found = tile_bounds("W35A_7_58")
    assert found == Bounds(-38300, -3751600, -38200, -3751500)
    to_degrees = pyproj.Transformer.from_crs(TILE_CRS, "OGC:CRS84", always_xy=True)
    x, y = (found.left + found.right) / 2, (found.bottom + found.top) / 2
    assert to_degrees.transform(x, y) == pytest.approx((18.5865, -33.8901), abs=5e-5)


def test_the_crs_is_lo19_with_its_axes_reversed() -> None:
    lo19 = pyproj.Transformer.from_crs("OGC:CRS84", "EPSG:2048", always_xy=True)
    ours = pyproj.Transformer.from_crs("OGC:CRS84", TILE_CRS, always_xy=True)
    westing, southing = lo19.transform(18.5865, -33.8901)
    assert ours.transform(18.5865, -33.8901) == pytest.approx((-westing, -southing), abs=0.01)


SHEETS = st.builds(
    "{}{:02}{}".format, st.sampled_from("EW"), st.integers(0, 99), st.sampled_from("ABCD")
)


@given(SHEETS, SHEETS, st.integers(1, 25), st.integers(1, 100))
def test_two_sheets_never_share_a_tile(one: str, other: str, block: int, cell: int) -> None:
    same = tile_bounds(f"{one}_{block}_{cell}") == tile_bounds(f"{other}_{block}_{cell}")
    assert same == (one == other)


@pytest.mark.parametrize(
    "name",
    [
        "W35A_0_58", "W35A_26_58", "W35A_7_0", "W35A_7_101", "W35E_7_58", "N35A_7_58", "W3A_7_58",
        "W35A_7", "W35A_7_58.tif", "w35a_7_58", "W35A_7_58_1", "nice_0001", "",
    ],
)  # fmt: skip
def test_a_name_outside_the_grid_has_no_bounds(name: str) -> None:
    assert tile_bounds(name) is None
