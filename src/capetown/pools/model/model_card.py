"""The model card: Markdown for people, in the form of the Hugging Face hub.

`train` renders it beside the model, with the metrics of the validation fold. `evaluate` renders it
into its own folder, with those of the test fold as well: an out of DVC belongs to one stage, and
evaluation must not change the model. Both take the facts from the manifest.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from capetown import city
from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.metrics import METRICS
from capetown.pools.model.manifest import MANIFEST_FILE, ModelManifest, TrainingSummary

CARD_FILE = "README.md"
TASK = "image-classification"


def summarise_training(
    train: LabelledTiles, valid: LabelledTiles, scores: Mapping[str, float], *, pretrained: bool
) -> TrainingSummary:
    """The facts that the model card reports; see `TrainingSummary`."""
    labels = np.concatenate([train.labels, valid.labels])
    return TrainingSummary(
        pretrained=pretrained,
        train_tiles=len(train.labels),
        valid_tiles=len(valid.labels),
        groups=len(np.union1d(train.groups, valid.groups)),
        shared_groups=bool(np.isin(valid.groups, train.groups).any()),
        pool_share=float(np.mean(labels == CLASSES.index("yes"))),
        scores=dict(scores),
        groups_source=train.groups_source,
        names=train.names,
    )


def render_card(
    manifest: ModelManifest, evaluation: Mapping[str, Any] | None = None, source: str = ""
) -> str:
    """Render the model card from a manifest with a training summary.

    `evaluation` is the result of `capetown.pools.evaluation.metrics_report.evaluate` on the test
    fold. `source` is that of the test tiles; ``data`` is the sample.

    Raises:
        CapetownError: the manifest has no training summary.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    training = manifest.training
    if training is None:
        raise CapetownError(
            "no summary of the training", where=MANIFEST_FILE, fix="run `dvc repro train`"
        )
    # On the hub, a backbone's name has the tag of its weights. `lite` comes with a package.
    on_hub = training.pretrained and "." in manifest.architecture
    data = ModelCardData(
        model_name=f"{''.join(city.NAME.lower().split())}-pools",
        license="mit",
        library_name="timm",
        pipeline_tag=TASK,
        tags=[TASK, "timm", "aerial-imagery", "swimming-pools"],
        base_model=f"timm/{manifest.architecture}" if on_hub else None,
        eval_results=[
            EvalResult(
                task_type=TASK,
                dataset_type="aerial-tiles",
                dataset_name=f"aerial tiles, {manifest.dataset}",
                dataset_split="test" if evaluation else "validation",
                metric_type=key,
                metric_name=metric.name,
                metric_value=round(float((evaluation or training.scores)[key]), 4),
            )
            for key, metric in METRICS.items()
        ],
    )
    card = ModelCard.from_template(
        data,
        template_str=files("capetown.pools.model").joinpath("model_card.md.j2").read_text("utf-8"),
        city=city,
        manifest=manifest,
        training=training,
        random=training.groups_source in (None, "none"),
        evaluation=evaluation,
        source=source,
        metrics=METRICS,
        code=_in_code,
    )
    return str(card.content).rstrip() + "\n"


def _in_code(value: str) -> str:
    """A value for a code span of Markdown: on one line, and without what would end the span."""
    return " ".join(value.replace("`", "'").split())
