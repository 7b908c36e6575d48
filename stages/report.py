"""Write the report from what the other stages found."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import polars as pl

from capetown.params import load_params
from capetown.report.facts import Facts, not_joined
from capetown.report.inputs import EMPTY_TABLE, read_csv, read_json
from capetown.report.pool_map import read_pools
from capetown.report.render import markdown_and_images, page
from capetown.report.request_facts import Requests
from capetown.report.request_statistics import service_tables
from capetown.timing import step
from stages import run
from stages.outs import put_in_place

METRICS, EVALUATION, OUT = Path("metrics"), Path("evaluation"), Path("reports")
REQUESTS = METRICS / "requests.json"
INVENTORY = Path("raw/inventory.csv")
CURVES = ("roc", "precision_recall", "calibration")


def shown_settings() -> dict[str, dict[str, Any]]:
    """The sections of the params that the report shows."""
    params = load_params(Path("params.yaml"))
    return {
        "model": {"model": params.model, "pretrained": params.pretrained, "seed": params.seed},
        "backbone": params.backbone.model_dump(),
        "download": {"source": params.download.source},
        "transform": params.transform.model_dump(),
        "split": params.split.model_dump(),
        "train": params.train.model_dump(),
        "evaluate": params.evaluate.model_dump(),
    }


def main() -> None:
    """Write reports/."""
    with step("read"):
        transform = read_json(METRICS / "transform.json")
        if transform:
            transform["quality"] = read_json(METRICS / "quality.json")
        requests = pl.scan_parquet("hexes/requests.parquet") if transform else None
        evaluate = read_json(METRICS / "evaluate.json") | read_json(METRICS / "judgement.json")
        facts = Facts(
            transform=transform,
            split=read_json(METRICS / "split.json"),
            evaluate=evaluate,
            card=read_json(Path("models/model.json")) if evaluate else {},
            hexagons=gpd.read_parquet("hexes/counts.parquet") if transform else None,
            requests=None if requests is None else Requests(service_tables(requests)),
            rejects=not_joined(pd.read_parquet("hexes/rejects.parquet"))
            if transform
            else EMPTY_TABLE,
            history=read_csv(METRICS / "history.csv"),
            predictions=read_csv(METRICS / "predictions.csv"),
            sheets=read_csv(METRICS / "sheets.csv", sheet=str),
            curves={n: read_csv(METRICS / "plots" / f"{n}.csv") for n in CURVES if evaluate},
            samples=read_csv(EVALUATION / "samples.csv") if evaluate else EMPTY_TABLE,
            mistakes=read_csv(EVALUATION / "mistakes.csv") if evaluate else EMPTY_TABLE,
            evaluation=EVALUATION,
            inventory=pd.read_csv(INVENTORY),
            fingerprint=sha256(INVENTORY.read_bytes()).hexdigest()[:16],
            settings=shown_settings(),
            predicted=read_pools(Path("maps/pools.parquet")),
        )
    with step("Markdown"):
        markdown, images = markdown_and_images(facts)
    with step("HTML"):
        html = page(facts)
    outs = (OUT / "images", OUT / "tables", OUT / "index.md", OUT / "index.html", REQUESTS)
    with put_in_place(*outs) as made:
        for folder in outs[:2]:
            (made / folder).mkdir()
        with step("pictures"):
            for name, picture in images.items():
                (made / OUT / "images" / name).write_bytes(picture())
        for name, table in (facts.requests.tables if facts.requests else {}).items():
            table.write_parquet(made / OUT / "tables" / f"{name}.parquet")
        numbers = facts.requests.numbers if facts.requests else {}
        (made / REQUESTS).write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
        (made / OUT / "index.md").write_text(markdown, encoding="utf-8")
        (made / OUT / "index.html").write_text(html, encoding="utf-8")


if __name__ == "__main__":
    run(main)
