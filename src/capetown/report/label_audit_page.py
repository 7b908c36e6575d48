"""The page of doubtful labels, with pictures to check them."""

from functools import partial
from pathlib import Path

import pandas as pd

from capetown.params import BandRendering
from capetown.report.pages import to_html, to_markdown
from capetown.report.pictures import tile_picture


def as_page(
    doubts: pd.DataFrame, shown: int, corrections: str, tiles: Path, rule: BandRendering
) -> str:
    """The first rows of `label_audit.doubtful_labels`, with lines to copy to `corrections`."""
    first = doubts.head(shown)
    first = first.assign(other=first["label"].map({"yes": "no", "no": "yes"}))
    text = to_markdown(
        "labels.md.j2",
        rows=first.to_dict("records"),
        count=len(doubts),
        suspect=int(doubts["suspect"].sum()),
        corrections=corrections,
        picture=partial(tile_picture, tiles, rule),
    )
    return to_html(text, {}, "Labels to check")
