"""A model's card for people, in the form of the Hugging Face hub: ``README.md`` beside the weights.

`train` writes it with what the validation fold said. The test fold comes later, in another stage,
which may not write into the model's folder; it takes this very card, adds its judgement and leaves
the whole in its own folder. So both have the same facts, and the model does not change when it is
judged.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.metrics import METRICS
from capetown.pools.model.manifest import ModelManifest

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD_FILE = "README.md"
TASK = "image-classification"
NAME = "capetown-pools"
MADE_UP = (
    ", **the made-up ones in the repository: these figures show that the pipeline works, and say "
    "nothing about Cape Town**"
)
PENDING = (
    "It has not been judged on the test fold here: `dvc repro evaluate` does that, and leaves this "
    "card with the judgement in `evaluation/README.md`, to be published in the place of this one."
)


def write_card(
    folder: Path,
    card: ModelManifest,
    train: LabelledTiles,
    valid: LabelledTiles,
    scores: Mapping[str, float],
    *,
    pretrained: bool,
) -> None:
    """Write the card of a model that was just trained.

    Args:
        folder: of the model.
        card: what is needed to use it.
        train: what it learned from.
        valid: what it was chosen by.
        scores: the metrics on `valid` of the epoch that was kept.
        pretrained: True if it started from published weights.
    """
    from huggingface_hub import ModelCard as HubCard
    from huggingface_hub import ModelCardData

    labels = [*train.labels.tolist(), *valid.labels.tolist()]
    data = ModelCardData(
        model_name=NAME,
        license="mit",
        library_name="timm",
        pipeline_tag=TASK,
        tags=[TASK, "timm", "aerial-imagery", "swimming-pools"],
        # On the hub a backbone has the tag of its weights in its name; `lite` comes with a package.
        base_model=f"timm/{card.architecture}" if pretrained and "." in card.architecture else None,
        eval_results=_results(scores, card, "validation"),
    )
    made = HubCard.from_template(
        data,
        template_str=files("capetown.pools.model").joinpath("model_card.md.j2").read_text("utf-8"),
        card=card,
        start="fine-tuned from its published weights" if pretrained else "trained from nothing",
        train=f"{len(train.labels):,}",
        valid=f"{len(valid.labels):,}",
        groups=f"{len({*train.groups.tolist(), *valid.groups.tolist()}):,}",
        split=(
            "Some groups are in both folds, so the figures below flatter."
            if np.isin(valid.groups, train.groups).any()
            else "No group is in two folds."
        ),
        metrics=_table(scores, {}),
        pending=PENDING,
        share=round(100 * sum(label == CLASSES.index("yes") for label in labels) / len(labels)),
    )
    (folder / CARD_FILE).write_text(made.content.rstrip() + "\n", encoding="utf-8")


def judged_card(folder: Path, card: ModelManifest, figures: Mapping[str, Any], source: str) -> str:
    """A model's card with the judgement on the test fold.

    Args:
        folder: of the model, with the card that `write_card` left.
        card: what is needed to use it.
        figures: as `capetown.pools.evaluation.metrics_report.evaluate` gives them.
        source: where the tiles came from; ``data`` is the miniature.

    Raises:
        CapetownError: there is no such card.
    """
    from huggingface_hub import ModelCard as HubCard

    path = folder / CARD_FILE
    try:
        made = HubCard(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CapetownError(f"{path}: no model card; `dvc repro train` makes one.") from error
    data: Any = made.data
    data.eval_results = _results(figures, card, "test")
    wrong = figures["calibration"]
    judged = (
        f"On the test fold, {figures['n']:,} tiles of {figures['groups']:,} groups that had no "
        f"part in its making, looked at once, at the threshold of {card.threshold:.4g}; intervals "
        "hold the value in 95 % of resamples of whole groups, where there are enough.\n\n"
        f"{_table(figures, figures['intervals'])}\n\n"
        f"Its probabilities are off by {100 * wrong['ece_after']:.1f} % on average "
        f"(expected calibration error; {100 * wrong['ece_before']:.1f} % before "
        f"the temperature). The tiles came from `{source}`{MADE_UP if source == 'data' else ''}."
    )
    made.text = made.text.replace(PENDING, judged)
    return str(made.content).rstrip() + "\n"


def _results(scores: Mapping[str, Any], card: ModelManifest, fold: str) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            dataset_type="aerial-tiles",
            dataset_name=f"aerial tiles, {card.dataset}",
            dataset_split=fold,
            metric_type=key,
            metric_name=metric.name,
            metric_value=round(float(scores[key]), 4),
        )
        for key, metric in METRICS.items()
    ]


def _table(scores: Mapping[str, Any], intervals: Mapping[str, Any]) -> str:
    rows = []
    for key, metric in METRICS.items():
        bounds = intervals.get(key) or [None, None]
        said = "–" if None in bounds else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
        rows.append(f"| {metric.name} | {scores[key]:.3f} |" + (f" {said} |" if intervals else ""))
    head = ["| Metric | Value |", "| --- | ---: |"]
    if intervals:
        head = ["| Metric | Value | 95 % interval |", "| --- | ---: | --- |"]
    return "\n".join([*head, *rows])
