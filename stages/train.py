"""Fine-tune the chosen backbone; fit threshold and temperature on the validation fold.

Under torchrun several processes train together, and the first one writes.
"""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pandas as pd
from dvclive import Live

from capetown.params import load_params
from capetown.pools.dataset.dataset import fold_profile, load_fold
from capetown.pools.dataset.pixel_cache import cache_folder
from capetown.pools.model.architecture import build_model, input_config
from capetown.pools.model.devices import choose_device, make_repeatable, to_device
from capetown.pools.model.manifest import save_model
from capetown.pools.model.model_card import write_card
from capetown.pools.training import parallel
from capetown.pools.training.calibrate import calibrate
from capetown.pools.training.checkpoints import fingerprint, forget_checkpoint
from capetown.pools.training.live import log_epoch
from capetown.pools.training.loop import fit
from capetown.pools.training.schedules import best_epoch
from capetown.timing import step
from stages import root, run
from stages.outs import has_no_tile, put_in_place, write_empty

TILES = Path("splits/tiles.csv")
MODEL, HISTORY, LIVE = Path("models"), Path("metrics/history.csv"), Path("metrics/train")


def main() -> None:
    """Write models/, metrics/train/ and metrics/history.csv."""
    if has_no_tile(TILES):
        write_empty(MODEL, HISTORY, LIVE / "plots", LIVE / "metrics.json")
        return
    params = load_params(Path("params.yaml"))
    backbone, settings, seed = params.backbone, params.train, params.seed
    make_repeatable(params.threads)
    device = choose_device(params.device)
    parallel.join_others(device)
    first = parallel.rank() == 0
    size = settings.image_size or backbone.image_size
    with step("build the model"):
        model = build_model(
            backbone, image_size=size, pretrained=params.pretrained, seed=seed,
            inputs=settings.model_dump(include={"interpolation", "mean", "std"}),
        )  # fmt: skip
        model = to_device(model, device)
        how = input_config(model)["interpolation"]
    read = partial(load_fold, size=size, interpolation=how, cache=cache_folder(), rule=params.tiles)
    with step("load the tiles"):
        train, valid = (read(TILES, fold, Path("raw")) for fold in ("train", "valid"))
    name = fingerprint(
        data=[train.digest, valid.digest], backbone=backbone.model_dump(),
        settings=settings.model_dump(),
        start=[params.pretrained, seed, params.threads, device.type, parallel.size()],
    )  # fmt: skip
    checkpoints = root() / "checkpoints" / name
    with put_in_place(MODEL, HISTORY, LIVE) if first else nullcontext(Path()) as made:
        live = Live(str(made / LIVE), dvcyaml=None, save_dvc_exp=False) if first else None
        with step("train"):
            history = fit(
                model, train, valid, backbone=backbone, settings=settings, seed=seed,
                checkpoints=checkpoints, on_epoch=partial(log_epoch, live),
            )  # fmt: skip
        parallel.leave_others()
        if live is not None:
            live.end()
            table = pd.DataFrame([row.row() for row in history])
            table.to_csv(made / HISTORY, index=False)
            card = calibrate(
                model, train, valid, backbone, settings, params.tiles, fold_profile(TILES, "train"),
            )  # fmt: skip
            save_model(made / MODEL, model, card)
            scores = best_epoch(history).scores
            write_card(made / MODEL, card, train, valid, scores, pretrained=params.pretrained)
    if first:
        forget_checkpoint(checkpoints)


if __name__ == "__main__":
    run(main)
