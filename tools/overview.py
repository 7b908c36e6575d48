"""The picture of the README: the report's map, and a tile with the model's prediction.

    python -m tools.overview

Run it after `dvc repro`. It takes the test tile with a pool that the model is surest of.
"""

from pathlib import Path

import pandas as pd
from font_roboto import Roboto, RobotoBold
from PIL import Image, ImageDraw, ImageFont

from capetown.imagery.reading import read_tile
from capetown.params import load_params

MAP, OUT = Path("reports/images/map.png"), Path("docs/images/overview.png")
WIDTH, HEIGHT, MARGIN, SIDE = 760, 1000, 56, 648
INK, SOFT, PAPER = "#1c2733", "#53616f", "#faf8f4"


def main() -> None:
    """Write the picture."""
    tiles = pd.read_csv("metrics/predictions.csv")
    surest = tiles[tiles["label"] == "yes"].sort_values(["probability", "path"]).iloc[-1]
    pixels = read_tile(Path("raw", surest["path"]), load_params(Path("params.yaml")).tiles)
    with Image.open(MAP) as opened:
        left = opened.convert("RGB")
    picture = Image.new("RGB", (left.width + WIDTH, HEIGHT), PAPER)
    picture.paste(left)
    at = left.width + MARGIN
    picture.paste(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (at, 200))
    draw = ImageDraw.Draw(picture)
    draw.text((at, 60), "Pools from the air", INK, ImageFont.truetype(RobotoBold, 40))
    small, large = ImageFont.truetype(Roboto, 22), ImageFont.truetype(RobotoBold, 34)
    draw.text((at, 124), "A test tile of the sample, a drawing", SOFT, small)
    share = "over 99 %" if surest["probability"] > 0.99 else f"{100 * surest['probability']:.0f} %"
    draw.text((at, 876), f"Prediction: pool, {share}", INK, large)
    draw.text((at, 930), "Label: pool", SOFT, small)
    OUT.parent.mkdir(exist_ok=True)
    picture.quantize(256).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
