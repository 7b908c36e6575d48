"""The question about pools and water, asked of the small city of `tests.report.city`."""

from collections.abc import Iterator

import pytest

from capetown.report import labelled_tiles
from tests.report.city import SCRIPT


@pytest.fixture(scope="package", autouse=True)
def _question() -> Iterator[None]:
    """Its hexagons lie in few neighbourhoods, and its only directorate has a hostile name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelled_tiles, "MIN_NEIGHBOURHOODS", 2)
        patch.setattr(labelled_tiles, "WATER_DIRECTORATE", SCRIPT)
        yield
