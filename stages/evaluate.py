"""Judge the model once on the test fold, and pick the tiles that the report shows."""

import json
from pathlib import Path

import pandas as pd
from PIL import Image

from capetown.devices import choose_device, make_repeatable
from capetown.evaluation import curves, judge, predictions, sheets, worst_mistakes
from capetown.folds import load_fold
from capetown.inference import predict_logits
from capetown.modelfile import load_model
from capetown.packing import cache_folder
from capetown.params import load_params
from capetown.saliency import overlay, saliency
from capetown.tiles import read_tile, resize
from stages import run, step

RAW, OUT, METRICS = Path("raw"), Path("evaluation"), Path("metrics")
# Tiles of each class that the report shows as examples.
SAMPLES = 4


def save(path: str, image: Image.Image, suffix: str = "") -> str:
    """Write a picture into evaluation/ under its tile's name, and return that name."""
    tile = Path(path)
    name = f"{tile.parent.name}-{tile.stem}{suffix}.png"
    image.save(OUT / name)
    return name


def main() -> None:
    """Write metrics/evaluate.json, the tables beside it, and evaluation/."""
    params = load_params(Path("params.yaml"))
    make_repeatable(params.threads)
    model, card = load_model(Path("models"), choose_device(params.device))
    size, how = card.image_size, card.interpolation
    with step("decode the tiles"):
        fold = load_fold(
            Path("splits/tiles.csv"),
            "test",
            RAW,
            size=size,
            interpolation=how,
            cache=cache_folder(),
        )
    with step("predict"):
        logits = predict_logits(model, fold.pixels, mean=card.mean, std=card.std)
    resamples = params.evaluate.bootstrap
    with step("judge"):
        figures = judge(fold, logits, card, resamples=resamples, seed=params.seed)
    (METRICS / "evaluate.json").write_text(json.dumps(figures, indent=2) + "\n")
    table = predictions(fold, logits, card)
    table.to_csv(METRICS / "predictions.csv", index=False)
    sheets(fold, logits, card).to_csv(METRICS / "sheets.csv", index=False)
    (METRICS / "plots").mkdir(exist_ok=True)
    for name, curve in curves(fold, logits, card).items():
        curve.to_csv(METRICS / "plots" / f"{name}.csv", index=False)

    OUT.mkdir(exist_ok=True)
    with step("draw mistakes and samples"):
        rows = []
        worst = worst_mistakes(table, card.threshold, params.evaluate.mistakes)
        for path, kind in zip(worst["path"], worst["kind"], strict=True):
            tile = read_tile(RAW / path)
            says_yes = kind == "false_positive"
            heat = saliency(model, card, resize(tile, size, how), towards_yes=says_yes)
            rows.append(
                (save(path, Image.fromarray(tile)), save(path, overlay(tile, heat), "-saliency"))
            )
        pictures = pd.DataFrame(rows, columns=["tile", "saliency"], index=worst.index)
        worst.join(pictures).to_csv(OUT / "mistakes.csv", index=False)
        shuffled = table.sample(frac=1, random_state=params.seed)
        picked = shuffled.groupby("label").head(SAMPLES).sort_values("path")
        images = [save(path, Image.fromarray(read_tile(RAW / path))) for path in picked["path"]]
        picked[["path", "label"]].assign(tile=images).to_csv(OUT / "samples.csv", index=False)


if __name__ == "__main__":
    run(main)
