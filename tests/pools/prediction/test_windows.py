"""Orthophotos are cut into windows that are read one by one and located."""

import http.server
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import open_image
from tests import s3
from tests.imagery import GRID, NORTH, ORTHO, UTM, WEST, geotiff
from tests.pools.prediction import Predict


def windows_of(found: pd.DataFrame) -> list[list[int]]:
    return [list(map(int, path.partition("#xywh=")[2].split(","))) for path in found["path"]]


@pytest.mark.parametrize("angle", [0, 30])
def test_a_window_equals_a_tile_of_its_own(angle: int, predict: Predict, tmp_path: Path) -> None:
    """Row by row, of the given size, the last at the end of the image, each located."""
    grid = Affine.translation(WEST, NORTH) @ Affine.rotation(angle) @ Affine.scale(2.5, -2.5)
    image = geotiff(tmp_path / "ortho.tif", ORTHO, transform=grid)
    found = predict("out.parquet", image, "--tile-metres", "100")
    cuts = [[left, top, 40, 40] for top in (0, 30, 60) for left in (0, 40, 80)]
    assert windows_of(found) == cuts
    assert found["path"].str.startswith(f"{image}#xywh=").all()
    (tmp_path / "cut").mkdir()
    for number, (left, top, width, height) in enumerate(cuts):
        part = ORTHO[top : top + height, left : left + width]
        corner = grid @ Affine.translation(left, top)
        geotiff(tmp_path / "cut" / f"{number}.tif", part, transform=corner)
    alone = predict("cut.parquet", tmp_path / "cut")
    columns = ["probability", "decision", "h3_index", "longitude", "latitude", "geometry"]
    assert found[columns].equals(alone[columns])
    # Its corners, counterclockwise from the upper left.
    to_utm = Transformer.from_crs("OGC:CRS84", UTM, always_xy=True)
    corners = shapely.get_coordinates(shapely.from_wkb(found["geometry"][8]))[:4]
    expected = [grid @ at for at in ((80, 60), (80, 100), (120, 100), (120, 60))]
    assert np.column_stack(to_utm.transform(*corners.T)) == pytest.approx(
        np.array(expected), abs=0.01
    )


def test_windows_with_little_data_are_left_out_and_counted(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = ORTHO.copy()
    pixels[:39, :60] = 0  # all but one row of the first window, and half of the second
    image = geotiff(tmp_path / "ortho.tif", pixels, nodata=0)
    for _ in ("a run", "a second one, which computes nothing"):
        found = predict("out.csv", image, "--tile-metres", "100")
        assert len(found) == 8
        assert windows_of(found)[0] == [40, 0, 40, 40]
        assert found["data_share"][:2].tolist() == [(40 * 40 - 39 * 20) / 1600, 1]
        assert "1 windows with data in less than half of" in capsys.readouterr().out


def test_unreadable_images_and_windows_are_rows_with_a_reason(
    predict: Predict, tmp_path: Path
) -> None:
    whole = geotiff(tmp_path / "a.tif", ORTHO).read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.tif").write_bytes(whole[:100])
    found = predict("out.csv", tmp_path, "--tile-metres", "100")
    assert windows_of(found[:9])[8] == [80, 60, 40, 40]
    assert found["path"][9:].tolist() == [str(tmp_path / "b.tif")]
    assert found["error"].ne("")[[0, 8, 9]].tolist() == [False, True, True]


def test_an_orthophoto_may_be_in_a_bucket_or_on_a_web_server(
    predict: Predict, tmp_path: Path, seaweed: s3.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.url)
    image = geotiff(tmp_path / "ortho.tif", ORTHO, tiled=True, blockxsize=64, blockysize=64)
    seaweed.fs.put(str(image), f"{s3.PUBLIC}/ortho.tif")
    local = predict("local.csv", image, "--tile-metres", "100")
    for url in (f"s3://{s3.PUBLIC}/ortho.tif", f"{seaweed.url}/{s3.PUBLIC}/ortho.tif"):
        remote = predict(f"{url.partition(':')[0]}.csv", url, "--tile-metres", "100")
        assert remote["path"].tolist() == [p.replace(str(image), url) for p in local["path"]]
        assert remote.drop(columns="path").equals(local.drop(columns="path"))
    (tmp_path / "bad.tif").write_text(vrt(f"/vsis3/{s3.PUBLIC}/ortho.tif"))
    seaweed.fs.put(str(tmp_path / "bad.tif"), f"{s3.PUBLIC}/bad.tif")
    found = predict("bad.csv", f"s3://{s3.PUBLIC}/bad.tif", image, "--tile-metres", "100")
    assert found["error"].ne("").tolist() == [True] + [False] * len(local)


def test_a_large_orthophoto_is_never_read_whole(predict: Predict, tmp_path: Path) -> None:
    """The image has 300 MB of pixels, a window half a megabyte."""
    with rasterio.open(
        tmp_path / "ortho.tif", "w", driver="GTiff", width=10_000, height=10_000, count=3,
        dtype="uint8", crs=UTM, transform=GRID, tiled=True, sparse_ok=True, nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, 400, 400), 9, np.uint8), window=((9600, 10_000), (9600, 10_000)))
    predict("warm.csv", geotiff(tmp_path / "warm.tif"))
    tracemalloc.start()
    found = predict("out.csv", tmp_path / "ortho.tif", "--tile-metres", "1000")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert windows_of(found) == [[9600, 9600, 400, 400]]
    assert peak < 60e6


VRT = """<VRTDataset rasterXSize="120" rasterYSize="100">{bands}</VRTDataset>"""
BAND = """<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>
<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>{band}</SourceBand>
</SimpleSource></VRTRasterBand>"""
AUX = """<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{}</MDI></Metadata>
</PAMDataset>"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that must not be called. GDAL would wait a second for its answer."""
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def vrt(source: str) -> str:
    return VRT.format(bands="".join(BAND.format(band=n, source=source) for n in (1, 2, 3)))


@pytest.mark.parametrize("options", [[], ["--tile-pixels", "50"], ["--tile-metres", "100"]])
def test_an_image_opens_no_other_file_and_calls_no_server(
    options: list[str], predict: Predict, tmp_path: Path, server: socket.socket
) -> None:
    """An image that is VRT text gets no probability; sidecars that name files are not followed."""
    url = f"/vsicurl/http://127.0.0.1:{server.getsockname()[1]}"
    secret = geotiff(tmp_path / "secret.tif", ORTHO)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number, source in enumerate((str(secret), "/etc/passwd", f"{url}/a.tif")):
        (folder / f"bad{number}.tif").write_text(vrt(source))
        (folder / f"bad{number}.png").write_text(vrt(source))
    (folder / "list.txt").write_text(f"{url}/listed.tif\n/vsizip/{secret}\n")
    for number, sidecar in enumerate((".ovr", ".msk", ".aux.xml")):
        image = geotiff(folder / f"good{number}.tif", ORTHO)
        text = AUX.format(f"{url}/aux.ovr") if sidecar == ".aux.xml" else vrt(f"{url}/b.tif")
        Path(f"{image}{sidecar}").write_text(text)
    alone = predict("alone.csv", secret, *options)
    rows = predict("out.csv", folder, f"@{folder / 'list.txt'}", *options)
    with pytest.raises(BlockingIOError):
        server.accept()
    for path in folder.glob("good*.tif"):
        with open_image(TileRef(path.name, str(path))) as opened:
            assert opened.dataset.overviews(1) == []
    good = rows["path"].str.contains("good")
    assert rows["probability"].ne("").tolist() == good.tolist()
    assert rows["probability"][good].astype(float).tolist() == alone["probability"].tolist() * 3
    assert rows["h3_index"][good].tolist() == alone["h3_index"].tolist() * 3
    assert rows["error"][~good].ne("").all()


class WithoutRanges(http.server.SimpleHTTPRequestHandler):
    """Python's own file server sends whole files only."""

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_without_ranges_is_named_once(
    predict: Predict, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    geotiff(tmp_path / "a.tif", ORTHO)
    handler = partial(WithoutRanges, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.tif"
        found = predict("out.csv", url, tmp_path / "a.tif", "--tile-metres", "100")
        server.shutdown()
    assert "download it first" in found["error"][0]
    assert found["error"][1:].tolist() == [""] * 9
    assert "Traceback" not in "".join(capfd.readouterr())
