"""Mirror the tiles of the source into raw/images/, verified."""

from pathlib import Path

from capetown.bucket.keys import choices
from capetown.params import load_params
from stages import run
from stages.download import download
from stages.outs import keep_results


def main() -> None:
    """Write raw/images/."""
    params = load_params(Path("params.yaml"))
    _, tiles = choices(params.download)
    if not tiles.patterns:
        keep_results("tiles")
    download(params.download, tiles)


if __name__ == "__main__":
    run(main)
