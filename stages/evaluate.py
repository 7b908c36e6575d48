"""Evaluate the model once on the test fold, and pick tiles for the report."""

import json
from pathlib import Path

from capetown.params import load_params
from capetown.pools.dataset.appearance import is_unlike, look_different
from capetown.pools.dataset.dataset import load_fold, validity
from capetown.pools.dataset.groups import RANDOM_SPLIT
from capetown.pools.dataset.pixel_cache import cache_folder
from capetown.pools.evaluation import metrics_report
from capetown.pools.evaluation.examples import draw_mistakes, draw_samples
from capetown.pools.model.devices import choose_device, make_repeatable
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import load_model
from capetown.pools.model.model_card import CARD_FILE, render_card
from capetown.timing import step
from stages import log, run
from stages.outs import has_no_tile, put_in_place, write_empty

RAW, TILES = Path("raw"), Path("splits/tiles.csv")
EVALUATION, METRICS = Path("evaluation"), Path("metrics")
TABLES = ("plots", "predictions.csv", "sheets.csv", "judgement.json", "evaluate.json")
OUTS = (EVALUATION, *(METRICS / name for name in TABLES))


def main() -> None:
    """Write metrics/evaluate.json, the tables beside it, and evaluation/."""
    if has_no_tile(TILES):
        write_empty(*OUTS)
        return
    params = load_params(Path("params.yaml"))
    settings, seed = params.evaluate, params.seed
    make_repeatable(params.threads)
    model, card = load_model(Path("models"), choose_device(params.device))
    with step("load the tiles"):
        fold = load_fold(
            TILES, "test", RAW, size=card.image_size, interpolation=card.interpolation,
            cache=cache_folder(), rendering=card.tiles,
        )  # fmt: skip
    if fold.groups_source == "none":
        log.warning("%s", RANDOM_SPLIT)
    unlike = look_different(list(fold.pixels), card.appearance)
    with step("predict"):
        logits = predict_logits(model, fold.pixels, mean=card.mean, std=card.std, tta=card.tta)
    with step("compute the metrics"):
        results = metrics_report.evaluate(
            fold, logits, card, resamples=settings.bootstrap, seed=seed
        )
    sheets = metrics_report.sheets(fold, logits, card, unlike)
    results |= {"valid_for": validity(TILES), "unlike": int(unlike.sum())}
    for name, tiles, differ in [
        ("the test fold", len(unlike), results["unlike"]),
        *sheets[["sheet", "tiles", "unlike"]].itertuples(index=False),
    ]:
        if is_unlike(differ, tiles):
            log.warning("%s: %d of %d tiles differ from training tiles", name, differ, tiles)
    described = render_card(card, results, params.download.source)
    table = metrics_report.predictions(fold, logits, card)
    with put_in_place(*OUTS) as made, step("write, draw mistakes and samples"):
        metrics, pictures = made / METRICS, made / EVALUATION
        pictures.mkdir()
        summary = metrics_report.summary_metrics(results)
        rest = {name: value for name, value in results.items() if name not in summary}
        (pictures / CARD_FILE).write_text(described, encoding="utf-8")
        (metrics / "evaluate.json").write_text(json.dumps(summary, indent=2) + "\n")
        (metrics / "judgement.json").write_text(json.dumps(rest, indent=2) + "\n")
        table.to_csv(metrics / "predictions.csv", index=False)
        sheets.to_csv(metrics / "sheets.csv", index=False)
        (metrics / "plots").mkdir()
        for name, curve in metrics_report.curves(fold, logits, card).items():
            curve.to_csv(metrics / "plots" / f"{name}.csv", index=False)
        worst = metrics_report.worst_mistakes(table, card.threshold, settings.mistakes)
        mistakes = draw_mistakes(worst, model, card, root=RAW, folder=pictures)
        mistakes.to_csv(pictures / "mistakes.csv", index=False)
        samples = draw_samples(table, card, seed=seed, root=RAW, folder=pictures)
        samples.to_csv(pictures / "samples.csv", index=False)


if __name__ == "__main__":
    run(main)
