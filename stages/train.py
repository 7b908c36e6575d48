"""Fine-tune the chosen backbone; fit threshold and temperature on the validation fold.

Under torchrun several processes train together, and the first one writes.
"""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pandas as pd
from dvclive import Live

from capetown.city import TILE_METRES
from capetown.params import load_params
from capetown.pools.dataset.dataset import fold_profile, load_fold
from capetown.pools.dataset.groups import RANDOM_SPLIT
from capetown.pools.dataset.pixel_cache import cache_folder
from capetown.pools.model.devices import choose_device
from capetown.pools.model.manifest import save_model
from capetown.pools.model.model_card import CARD_FILE, render_card, summarise_training
from capetown.pools.training import parallel
from capetown.pools.training.calibrate import calibrate
from capetown.pools.training.checkpoints import forget_checkpoint
from capetown.pools.training.fit_one import TrainingConfig, fit_one
from capetown.pools.training.schedules import best_epoch
from capetown.timing import step
from stages import log, root, run
from stages.outs import has_no_tile, keep_results, put_in_place, write_empty

TILES = Path("splits/tiles.csv")
# 288 pixels found pools in tiles of 100 metres better than 224, and 384 no better than 288.
MAX_METRES_PER_PIXEL = 100 / 288
MODEL, HISTORY, LIVE = Path("models"), Path("metrics/history.csv"), Path("metrics/train")


def main() -> None:
    """Write models/, metrics/train/ and metrics/history.csv."""
    if has_no_tile(TILES):
        keep_results("tiles")
        write_empty(MODEL, HISTORY, LIVE / "plots", LIVE / "metrics.json")
        return
    params = load_params(Path("params.yaml"))
    config = TrainingConfig(
        backbone=params.backbone, settings=params.train, pretrained=params.pretrained,
        seed=params.seed, threads=params.threads, device=params.device,
    )  # fmt: skip
    parallel.start_processes(choose_device(params.device))
    first = parallel.rank() == 0
    load = partial(
        load_fold, size=config.image_size, interpolation=config.interpolation,
        cache=cache_folder(), rendering=params.tiles,
    )  # fmt: skip
    if (metres := TILE_METRES / config.image_size) > MAX_METRES_PER_PIXEL:
        log.warning(
            "a pixel of the model's input covers %.2f m of tiles of %d m, which hides small pools: "
            "set train.image_size to %d or more",
            metres, TILE_METRES, TILE_METRES / MAX_METRES_PER_PIXEL,
        )  # fmt: skip
    with step("load the tiles"):
        train, valid = (load(TILES, fold, Path("raw")) for fold in ("train", "valid"))
    if train.groups_source == "none":
        log.warning("%s", RANDOM_SPLIT)
    with put_in_place(MODEL, HISTORY, LIVE) if first else nullcontext(Path()) as made:
        live = Live(str(made / LIVE), dvcyaml=None, save_dvc_exp=False) if first else None
        with step("train"):
            model, history, checkpoint = fit_one(
                config, train, valid, checkpoints=root() / "checkpoints",
                on_epoch=lambda epoch: epoch.log_to(live) if live else None,
            )  # fmt: skip
        parallel.stop_processes()
        if live is not None:
            live.end()
            table = pd.DataFrame([row.row() for row in history])
            table.to_csv(made / HISTORY, index=False)
            profile = fold_profile(TILES, "train")
            manifest = calibrate(model, train, valid, config, params.tiles, *profile)
            scores = best_epoch(history).scores
            summary = summarise_training(train, valid, scores, pretrained=params.pretrained)
            manifest = manifest.model_copy(update={"training": summary})
            save_model(made / MODEL, model, manifest)
            (made / MODEL / CARD_FILE).write_text(render_card(manifest), encoding="utf-8")
    if first and checkpoint:
        forget_checkpoint(checkpoint)


if __name__ == "__main__":
    run(main)
