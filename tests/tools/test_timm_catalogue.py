"""timm's tables: joined by name without tag and by size, filtered, and what none is better than."""

from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest
import yaml
from playwright.sync_api import Browser

from capetown.errors import CapetownError
from capetown.params import Backbone
from tests.browser import Opened
from tools.timm_catalogue import catalogue
from tools.timm_catalogue.__main__ import main
from tools.timm_catalogue.catalogue import choose, fetch, params_entry, read_catalogue
from tools.timm_catalogue.page import as_page

# As timm writes them: a tag in one table only, thousands separators, sizes that differ, and a model
# of timm's own tests, which is nobody's choice.
ACCURACY = """model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation
giant.clip_ft_in1k,336,89.466,10.534,98.82,1.18,"1,013.01",1.000,bicubic
former_s36.sail_384,384,86.860,13.140,98.212,1.788,39.30,1.000,bicubic
formerv2_s36.sail_384,384,86.900,13.140,98.212,1.788,79.90,1.000,bicubic
former_s36.sail,224,85.790,14.210,97.832,2.168,39.30,1.000,bicubic
net_tiny.in1k,224,84.186,15.814,97.122,2.878,28.59,0.950,bicubic
net_slow.in1k,224,84.000,16.000,97.000,3.000,28.59,0.950,bicubic
net_new.in1k,224,83.000,17.000,96.000,4.000,20.00,0.950,bicubic
test_net.r160_in1k,160,40.000,60.000,65.000,35.000,0.37,0.950,bicubic
"""
SPEED = """model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count
giant,336,101.5,1.0,256,"1,013.01"
former_s36,384,338.23,1513.74,512,39.3
former_s36,224,994.19,1029.958,1024,39.3
formerv2_s36,384,200.0,1.0,512,79.9
net_tiny,224,"2,900.5",1.0,1024,28.59
net_slow,224,2000.0,1.0,1024,28.59
"""


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    accuracy, speed = tmp_path / "accuracy.csv", tmp_path / "speed.csv"
    accuracy.write_text(ACCURACY)
    speed.write_text(SPEED)
    return accuracy, speed


@pytest.fixture
def table(tables: tuple[Path, Path]) -> pl.DataFrame:
    return read_catalogue(*tables)


def test_the_tables_join_without_tags_and_by_size(table: pl.DataFrame) -> None:
    assert table.rows() == [
        ("giant.clip_ft_in1k", 336, 89.466, 1013.01, 101.5),
        ("formerv2_s36.sail_384", 384, 86.9, 79.9, 200.0),
        ("former_s36.sail_384", 384, 86.86, 39.3, 338.23),
        ("former_s36.sail", 224, 85.79, 39.3, 994.19),
        ("net_tiny.in1k", 224, 84.186, 28.59, 2900.5),
        ("net_slow.in1k", 224, 84.0, 28.59, 2000.0),
        ("net_new.in1k", 224, 83.0, 20.0, None),
    ]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"max_parameters": 80, "min_top1": 85}, ["formerv2_s36.sail_384", "former_s36.sail_384",
                                                  "former_s36.sail"]),
        ({"image_size": 336}, ["giant.clip_ft_in1k"]),
        ({"family": "former"}, ["former_s36.sail_384", "former_s36.sail"]),
        ({"family": "net_tiny"}, ["net_tiny.in1k"]),
    ],
)  # fmt: skip
def test_filters(table: pl.DataFrame, filters: dict[str, Any], expected: list[str]) -> None:
    assert choose(table, **filters)["model"].to_list() == expected


def test_fronts(table: pl.DataFrame) -> None:
    rows = choose(table)
    both = {"giant.clip_ft_in1k", "formerv2_s36.sail_384", "former_s36.sail_384", "net_tiny.in1k"}
    assert set(rows.filter("small")["model"]) == both | {"net_new.in1k"}
    assert set(rows.filter("fast")["model"]) == both | {"former_s36.sail"}
    with pytest.raises(CapetownError, match="no backbone passes these filters"):
        choose(table, min_top1=99)


def test_the_command_prints_an_entry_of_the_params_and_writes_a_page(
    tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    files = ["--accuracy", str(tables[0]), "--speed", str(tables[1]), "--out"]
    main(["--max-params", "80", "--min-top1", "85", *files, str(page)])
    said = capsys.readouterr().out
    assert "giant" not in said
    assert params_entry("former_s36.sail_384", 384) in said
    assert "former_s36.sail_384" in page.read_text()
    entry = yaml.safe_load(params_entry("former_s36.sail_384", 384))
    assert Backbone.model_validate(entry["former_s36_384"]).image_size == 384
    with pytest.raises(SystemExit, match=r"error: /nowhere/x\.html: cannot be written \(No such"):
        main([*files, "/nowhere/x.html"])


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("84.186", "abc", "top1 of model 'net_tiny.in1k' is 'abc', not a number above 0"),
        ("20.00", "0", "param_count of model 'net_new.in1k' is '0', not a number above 0"),
        ('"2,900.5"', "fast", "infer_samples_per_sec of model 'net_tiny' is 'fast', not a number"),
    ],
)
def test_a_cell_that_is_no_number_is_named(
    tables: tuple[Path, Path], good: str, bad: str, said: str
) -> None:
    for path in tables:
        path.write_text(path.read_text().replace(good, bad))
    with pytest.raises(CapetownError, match=r"(accuracy|speed)\.csv: ") as caught:
        read_catalogue(*tables)
    assert said in str(caught.value)


@pytest.mark.parametrize("measured", [True, False])
def test_the_page_opens_without_network_or_error(
    browser: Browser, tables: tuple[Path, Path], tmp_path: Path, measured: bool
) -> None:
    accuracy, speed = tables
    accuracy.write_text(ACCURACY.replace("net_slow.in1k", "<b>net_slow.in1k</b>"))
    if not measured:
        speed.write_text(SPEED.splitlines()[0] + "\n")
    page = tmp_path / "page.html"
    html = as_page(choose(read_catalogue(accuracy, speed)), "benchmark-<i>rtx3090.csv")
    page.write_text(html, encoding="utf-8")
    opened = Opened(browser, page, viewport={"width": 380, "height": 800})
    assert (opened.requests, opened.errors) == ([], [])
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 380
    # Seven, five of them best for their size; five with a speed, all best for it.
    for name, count in {"parameters": 12, "speed": 10 if measured else 0}.items():
        marks = opened.page.locator(f"#{name} svg .mark-symbol.role-mark path")
        assert marks.count() == count
    text = opened.page.locator("main").inner_text()
    where = "as measured in" if measured else "None has a speed in"
    assert f"{where} benchmark-<i>rtx3090.csv" in text
    assert "<b>net_slow.in1k</b>" in text
    row = opened.page.locator("tr", has_text="former_s36.sail_384")
    assert row.last.locator("td").last.inner_text() == ("size, speed" if measured else "size")


def test_a_table_is_fetched_once_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / catalogue.COMMIT).mkdir()
    served = tmp_path / catalogue.COMMIT / catalogue.ACCURACY
    served.write_text(ACCURACY)
    digest = sha256(ACCURACY.encode()).hexdigest()
    monkeypatch.setitem(catalogue.SHA256, catalogue.ACCURACY, digest)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{{}}/{{}}"
        monkeypatch.setattr(catalogue, "RESULTS", url)
        served.write_text(ACCURACY + "damaged\n")
        with pytest.raises(CapetownError, match=r"cannot be fetched .*hash"):
            fetch(catalogue.ACCURACY)
        served.write_text(ACCURACY)
        path = fetch(catalogue.ACCURACY)
        assert path.read_text() == ACCURACY
        server.shutdown()
        server.server_close()
    assert fetch(catalogue.ACCURACY) == path
    with pytest.raises(CapetownError, match=r"cannot be fetched .* name it with --accuracy"):
        fetch(catalogue.SPEED)


def test_what_cannot_be_trained_is_left_out(tables: tuple[Path, Path], table: pl.DataFrame) -> None:
    rest = read_catalogue(*tables, {"former_s36": "it bites"})
    left = ["former_s36.sail", "former_s36.sail_384"]
    assert sorted(set(table["model"]) - set(rest["model"])) == left
