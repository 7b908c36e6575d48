"""Refuse a model that cannot be trained, before any other stage starts.

DVC runs this stage first when the model, a backbone or the device has changed. Without it, the
download of 28 GB would come before the error. `backbones` is a param as a whole: DVC itself would
refuse `backbones.NAME` of a mistyped model, and could not list the names.
"""

from pathlib import Path

from capetown.checks.preflight import check_model
from capetown.params import load_params
from stages import log, run


def main() -> None:
    """Check the chosen model."""
    params = load_params(Path("params.yaml"))
    check_model(params.backbone, pretrained=params.pretrained, device=params.device)
    log.info("model: %s (%s)", params.model, params.backbone.architecture)


if __name__ == "__main__":
    run(main)
