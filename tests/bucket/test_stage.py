"""The stage is interrupted, and the next run continues."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT, s3
from tests.bucket.mirrors import assert_whole, credentials, files


@pytest.fixture
def workspace(tmp_path: Path, proxy: s3.Proxy) -> Path:
    """A folder with params for the server."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    set_download(
        folder, bucket="s3://public/city", endpoint_url=proxy.url, connections=2, timeout=2,
        requests=["**"], tile_side=None,
    )  # fmt: skip
    return folder


def set_download(workspace: Path, **values: Any) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["download"] |= values
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))


def start(
    workspace: Path, *within: str, stage: str = "download_requests"
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*within, sys.executable, "-m", f"stages.{stage}"],
        cwd=workspace, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(workspace: Path, *within: str) -> tuple[int, str]:
    """Run the stage to its end. Return its status and its log."""
    _, said = (stage := start(workspace, *within)).communicate()
    assert "Traceback" not in said
    return stage.returncode, said


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_continues(
    how: signal.Signals, bucket: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    set_download(workspace, timeout=600)
    proxy.fault("GET .*tif", s3.no_fault, times=6)
    proxy.fault("GET .*tif", s3.stall)
    stage = start(workspace)
    while len(list((workspace / "checkpoints").rglob("*.tif"))) < 6:
        assert stage.poll() is None
        time.sleep(0.02)
    stage.send_signal(how)
    _, said = stage.communicate()
    if how == signal.SIGINT:
        assert stage.returncode == 130
        assert "Traceback" not in said
        assert "run the same command again" in said
    assert not (workspace / "raw").exists()
    [folder] = (workspace / "checkpoints").iterdir()
    whole = {key: data for key, data in files(folder).items() if ".partial-" not in key}
    assert whole.items() < files(bucket).items()
    missing = len(files(bucket)) - len(whole)

    proxy.reset()
    assert finish(workspace)[0] == 0
    assert_whole(workspace / "raw" / "requests", bucket)
    assert list((workspace / "checkpoints").iterdir()) == []
    # The last objects may be renamed and not yet in the journal.
    assert missing <= proxy.count("GET") - proxy.count("list-type") <= missing + 2


def test_a_full_disk_is_one_line(stored: str, workspace: Path) -> None:
    """The damaged tile is expected to take 0.2 MB. It is kept unreduced and has 3 MB."""
    set_download(workspace, bucket=stored, tile_side=640)
    (workspace / "checkpoints").mkdir()
    mount = 'mount -t tmpfs -o size=1500k none "$0" && exec "$@"'
    within = ["unshare", "-rm", "sh", "-c", mount, str(workspace / "checkpoints")]
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    status, said = finish(workspace, *within)
    assert status == 1
    assert re.search(r"^error: .*: No space left on device; make room and run", said, re.M)
    assert not (workspace / "raw").exists()


def test_credentials_are_in_no_log_and_no_file(proxy: s3.Proxy, workspace: Path) -> None:
    set_download(workspace, bucket="s3://private", credentials=credentials(workspace.parent))
    status, said = finish(workspace)
    assert status == 0, said
    proxy.fault("list-type", s3.unavailable)
    set_download(workspace, tries=1)
    status, failed = finish(workspace)
    assert status == 1
    written = b"".join(p.read_bytes() for p in workspace.rglob("*") if p.is_file())
    for secret in (s3.ACCESS_KEY, s3.SECRET_KEY):
        assert secret not in said + failed
        assert secret.encode() not in written
