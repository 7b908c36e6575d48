"""The stage is interrupted or disconnected, and continues."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT, s3
from tests.bucket.mirrors import assert_nothing_half_written, assert_whole, credentials, files


@pytest.fixture
def workspace(tmp_path: Path, proxy: s3.Proxy) -> Path:
    """A folder with params for the server."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {
        "source": "s3://public/city", "endpoint_url": proxy.url, "connections": 2, "timeout": 2,
        "include": ["**"], "tile_side": None,
    }  # fmt: skip
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def start(workspace: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "stages.download"],
        cwd=workspace, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def set_download(workspace: Path, **values: Any) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["download"] |= values
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))


def wait_for_tiles(workspace: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list((workspace / "checkpoints").rglob("*.tif"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_continues(
    how: signal.Signals, bucket: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    proxy.delay = 0.1
    stage = start(workspace)
    wait_for_tiles(workspace, 5)
    stage.send_signal(how)
    _, said = stage.communicate()
    if how == signal.SIGINT:
        assert stage.returncode == 130
        assert "Traceback" not in said
        assert "run the same command again to go on" in said
    assert not (workspace / "raw").exists()
    [arrived] = (workspace / "checkpoints").iterdir()
    theirs = files(bucket)
    whole = {k for k, v in files(arrived).items() if theirs.get(k) == v}
    assert {k for k in files(arrived) if ".partial-" not in k} == whole
    assert len(whole) < len(theirs)

    proxy.reset()
    again = start(workspace)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert_whole(workspace / "raw", bucket)
    assert not arrived.exists()
    fetched = proxy.count("GET") - proxy.count("list-type")
    # The last objects may be renamed and not yet in the journal.
    assert len(theirs) - len(whole) <= fetched <= len(theirs) - len(whole) + 2


def test_a_lost_network_is_one_line_and_the_next_run_continues(
    bucket: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    set_download(workspace, tries=1)
    proxy.fault("GET .*tif", s3.no_fault, times=4)
    proxy.fault("GET .*tif", s3.connection_reset)
    _, said = (stage := start(workspace)).communicate()
    assert stage.returncode == 1
    assert re.search(r"error: \d+ of \d+ objects could not be fetched", said)
    assert "were not tried after so many failures" in said
    assert "Traceback" not in said
    [arrived] = (workspace / "checkpoints").iterdir()
    assert_nothing_half_written(workspace / "raw", bucket, arrived)
    proxy.reset()
    _, said = (stage := start(workspace)).communicate()
    assert stage.returncode == 0, said
    assert_whole(workspace / "raw", bucket)


def test_credentials_are_in_no_log_and_no_file(
    bucket: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    path = credentials(workspace.parent)
    set_download(workspace, source="s3://private", credentials=path)
    _, said = (stage := start(workspace)).communicate()
    assert stage.returncode == 0, said
    proxy.fault("list-type", s3.unavailable)
    set_download(workspace, tries=1)
    _, failed = (stage := start(workspace)).communicate()
    assert stage.returncode == 1
    written = b"".join(p.read_bytes() for p in workspace.rglob("*") if p.is_file())
    for secret in (s3.ACCESS_KEY, s3.SECRET_KEY):
        assert secret not in said + failed
        assert secret.encode() not in written
