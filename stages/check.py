"""Refuse a model that cannot be trained before any other stage starts.

`run` looks at all params before a stage; DVC comes here first when `model` has changed. Without
this stage DVC itself would answer for a mistyped one, since `train` depends on the params of that
name, and could not say which names there are.
"""

from pathlib import Path

from capetown.params import load_params
from stages import log, run


def main() -> None:
    """Say which model was chosen."""
    params = load_params(Path("params.yaml"))
    log.info("model: %s", params.model)


if __name__ == "__main__":
    run(main)
