"""Judge the model once on the test fold, and pick the tiles that the report shows."""

import json
from pathlib import Path

from capetown.params import load_params
from capetown.pools.evaluation.examples import draw_mistakes, draw_samples
from capetown.pools.evaluation.judging import curves, judge, predictions, sheets, worst_mistakes
from capetown.pools.model.devices import choose_device, make_repeatable
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.modelfile import load_model
from capetown.pools.tiles.folds import load_fold
from capetown.pools.tiles.packing import cache_folder
from stages import run, step

RAW, OUT, METRICS = Path("raw"), Path("evaluation"), Path("metrics")
TILES = Path("splits/tiles.csv")


def main() -> None:
    """Write metrics/evaluate.json, the tables beside it, and evaluation/."""
    params = load_params(Path("params.yaml"))
    settings, seed = params.evaluate, params.seed
    make_repeatable(params.threads)
    model, card = load_model(Path("models"), choose_device(params.device))
    with step("decode the tiles"):
        fold = load_fold(
            TILES, "test", RAW, size=card.image_size, interpolation=card.interpolation,
            cache=cache_folder(), rule=card.tiles,
        )  # fmt: skip
    with step("predict"):
        logits = predict_logits(model, fold.pixels, mean=card.mean, std=card.std)
    with step("judge"):
        figures = judge(fold, logits, card, resamples=settings.bootstrap, seed=seed)
    (METRICS / "evaluate.json").write_text(json.dumps(figures, indent=2) + "\n")
    table = predictions(fold, logits, card)
    table.to_csv(METRICS / "predictions.csv", index=False)
    sheets(fold, logits, card).to_csv(METRICS / "sheets.csv", index=False)
    (METRICS / "plots").mkdir(exist_ok=True)
    for name, curve in curves(fold, logits, card).items():
        curve.to_csv(METRICS / "plots" / f"{name}.csv", index=False)

    OUT.mkdir(exist_ok=True)
    with step("draw mistakes and samples"):
        worst = worst_mistakes(table, card.threshold, settings.mistakes)
        mistakes = draw_mistakes(worst, model, card, root=RAW, folder=OUT)
        mistakes.to_csv(OUT / "mistakes.csv", index=False)
        samples = draw_samples(table, card, seed=seed, root=RAW, folder=OUT)
        samples.to_csv(OUT / "samples.csv", index=False)


if __name__ == "__main__":
    run(main)
