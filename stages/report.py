"""Write the report from the results of the other stages."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import polars as pl

from capetown.params import load_params
from capetown.report.facts import Facts
from capetown.report.labelled_tiles import outside, requests_and_tiles, tile_statistics
from capetown.report.pool_map import read_pools
from capetown.report.render import markdown_and_images, page
from capetown.report.request_statistics import request_metrics, request_tables
from capetown.requests.reader import FAILED, STATUS
from capetown.timing import step
from capetown.workbook import write_workbook
from stages import log, run
from stages.outs import put_in_place

METRICS, EVALUATION, OUT = Path("metrics"), Path("evaluation"), Path("reports")
INVENTORIES = (Path("raw/requests/inventory.csv"), Path("raw/images/inventory.csv"))
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


def read_json(path: Path) -> Any:
    """A JSON object; empty if the stage that writes it had no data."""
    return json.loads(path.read_text())


def read_csv(path: Path, **types: type) -> pd.DataFrame:
    """A table; empty if the stage that writes it had no data."""
    if not path.exists() or not path.stat().st_size:
        return pd.DataFrame()
    return pd.read_csv(path, dtype=types or None, keep_default_na=not types)


def read_tiles(path: Path) -> pd.DataFrame:
    """The located tiles without their outlines; empty if none is located."""
    columns = ["path", "label", "fold", "hexagon", "location_source"]
    return pd.read_parquet(path, columns=columns) if path.exists() else pd.DataFrame()


def read_facts() -> Facts:
    """Everything that the report shows."""
    evaluate = read_json(METRICS / "evaluate.json") | read_json(METRICS / "judgement.json")
    transform = read_json(METRICS / "transform.json")
    rejects = pd.read_parquet("hexes/rejects.parquet") if transform else pd.DataFrame({STATUS: []})
    return Facts(
        transform=transform and transform | {"quality": read_json(METRICS / "quality.json")},
        hexagons=gpd.read_parquet("hexes/counts.parquet") if transform else None,
        tables=request_tables(pl.scan_parquet("hexes/requests.parquet")) if transform else {},
        # The others joined, with a value that cannot be read.
        rejects=rejects[rejects[STATUS].isin(FAILED)],
        split=read_json(METRICS / "split.json"),
        evaluate=evaluate,
        model=read_json(Path("models/model.json")) if evaluate else {},
        history=read_csv(METRICS / "history.csv"),
        predictions=read_csv(METRICS / "predictions.csv"),
        sheets=read_csv(METRICS / "sheets.csv", sheet=str),
        curves={name: read_csv(METRICS / "plots" / f"{name}.csv") for name in CURVES},
        samples=read_csv(EVALUATION / "samples.csv"),
        mistakes=read_csv(EVALUATION / "mistakes.csv"),
        evaluation=EVALUATION,
        tiles=read_tiles(Path("splits/tiles.parquet")),
        inventory=pd.concat(map(pd.read_csv, INVENTORIES)),
        fingerprint=sha256(b"".join(map(Path.read_bytes, INVENTORIES))).hexdigest()[:16],
        settings=shown_settings(),
        pools_by_hexagon=read_pools(Path("maps/pools.parquet")),
    )


def main() -> None:
    """Write reports/."""
    with step("read"):
        facts = read_facts()
    if beyond := outside(facts):
        log.warning("%s", beyond)
    with step("Markdown and HTML"):
        markdown, images = markdown_and_images(facts)
        texts = {OUT / "index.md": markdown, OUT / "index.html": page(facts)}
    metrics = request_metrics(facts.tables) if facts.tables else {}
    texts[METRICS / "requests.json"] = json.dumps(metrics, indent=2) + "\n"
    pictures, tables = OUT / "images", OUT / "tables"
    with put_in_place(pictures, tables, *texts) as made, step("pictures"):
        for folder in (pictures, tables):
            (made / folder).mkdir()
        for path, text in texts.items():
            (made / path).write_text(text, encoding="utf-8")
        for name, picture in images.items():
            (made / pictures / name).write_bytes(picture())
        written = dict(facts.tables)
        if tile_statistics(facts):
            written["requests_and_tiles"] = pl.from_pandas(requests_and_tiles(facts))
        for name, table in written.items():
            table.write_parquet(made / tables / f"{name}.parquet")
        if written:
            write_workbook(made / tables / "tables.xlsx", written)


if __name__ == "__main__":
    run(main)
