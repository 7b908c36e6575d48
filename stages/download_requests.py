"""Mirror the tables and hexagons of the source into raw/requests/, verified."""

from pathlib import Path

from capetown.bucket.keys import choices
from capetown.params import load_params
from stages import run
from stages.download import download
from stages.outs import keep_results


def main() -> None:
    """Write raw/requests/."""
    params = load_params(Path("params.yaml"))
    requests, _ = choices(params.download)
    if not requests.patterns:
        keep_results("requests")
    download(params.download, requests)


if __name__ == "__main__":
    run(main)
