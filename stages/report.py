"""Write the report from what the other stages found."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from capetown.params import load_params
from capetown.reporting.facts import Facts
from capetown.reporting.report import markdown_and_images, page
from stages import run, step

METRICS, EVALUATION, OUT = Path("metrics"), Path("evaluation"), Path("reports")
INVENTORY = Path("raw/inventory.csv")
CURVES = ("roc", "precision_recall", "calibration")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> None:
    """Write reports/."""
    params = load_params(Path("params.yaml"))
    with step("read"):
        facts = Facts(
            transform=read_json(METRICS / "transform.json"),
            split=read_json(METRICS / "split.json"),
            evaluate=read_json(METRICS / "evaluate.json"),
            card=read_json(Path("models/model.json")),
            hexagons=gpd.read_parquet("hexes/counts.parquet"),
            rejects=pd.read_parquet("hexes/rejects.parquet"),
            history=pd.read_csv(METRICS / "history.csv"),
            predictions=pd.read_csv(METRICS / "predictions.csv"),
            sheets=pd.read_csv(METRICS / "sheets.csv", dtype={"sheet": str}, keep_default_na=False),
            curves={name: pd.read_csv(METRICS / "plots" / f"{name}.csv") for name in CURVES},
            samples=pd.read_csv(EVALUATION / "samples.csv"),
            mistakes=pd.read_csv(EVALUATION / "mistakes.csv"),
            evaluation=EVALUATION,
            inventory=pd.read_csv(INVENTORY),
            fingerprint=sha256(INVENTORY.read_bytes()).hexdigest()[:16],
            settings={
                "model": {
                    "model": params.model,
                    "pretrained": params.pretrained,
                    "seed": params.seed,
                },
                "backbone": params.backbone.model_dump(),
                "download": {"source": params.download.source},
                "transform": params.transform.model_dump(),
                "split": params.split.model_dump(),
                "train": params.train.model_dump(),
                "evaluate": params.evaluate.model_dump(),
            },
        )
    with step("Markdown and its pictures"):
        markdown, images = markdown_and_images(facts)
    with step("HTML"):
        html = page(facts)
    shutil.rmtree(OUT / "images", ignore_errors=True)
    (OUT / "images").mkdir(parents=True)
    for name, image in images.items():
        (OUT / "images" / name).write_bytes(image)
    (OUT / "index.md").write_text(markdown, encoding="utf-8")
    (OUT / "index.html").write_text(html, encoding="utf-8")


if __name__ == "__main__":
    run(main)
