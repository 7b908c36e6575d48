"""Devices that torch computes on, and the settings that make its results repeat."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from capetown.errors import CapetownError
from capetown.params import DeviceName

# glibc's numbers of what mallopt sets.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4


def _keep_freed_memory() -> None:
    """Have glibc keep what torch frees, for the next step.

    By default blocks of over 32 MiB, and what is free at the heap's end, go back to the kernel,
    which has to clear them again at every step: half of the time on large images.
    """
    with suppress(OSError, AttributeError):  # another C library than glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, 64 * 2**20)


# Here, since whatever computes with torch imports this module: stages, commands and benchmarks.
_keep_freed_memory()


def choose_device(name: DeviceName) -> torch.device:
    """The device of a name; ``auto`` takes the best there is.

    Raises:
        CapetownError: if the machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise CapetownError(f"device: this machine has no {name}; set device to auto or cpu.")
    return torch.device(name)


def make_repeatable(threads: int) -> None:
    """Fix the number of CPU threads, and let torch use only algorithms that repeat."""
    torch.set_num_threads(threads)
    # cuBLAS repeats only with a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling new memory would only help to find reads of it before it is written, at a price.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a model on a device, its weights in channels-last order, which convolutions like.

    Raises:
        CapetownError: if the device's memory is too small.
    """
    with memory_errors("the model's weights alone", "choose a smaller model"):
        model.to(device)
        for weights in model.parameters():
            # The order is for images: torch refuses it for the volumes of a few architectures.
            if weights.dim() == 4:
                weights.data = weights.data.to(memory_format=torch.channels_last)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and _crashes_in_channels_last(layer):
            layer.weight.data = torch.empty(layer.weight.shape, device=device).copy_(layer.weight)
            layer.register_forward_pre_hook(_in_channels_first)
    return model


def _crashes_in_channels_last(layer: nn.Conv2d) -> bool:
    """True for what torch 2.13's oneDNN writes beyond its memory for, in the backward pass on CPUs.

    Found with repvgg_a0 and fastvit_t8, whose first layer is such a one.
    """
    return (
        layer.weight.device.type == "cpu"
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < 16
    )


def _in_channels_first(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(image.contiguous() for image in inputs)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The type for mixed precision: bfloat16 or float16 on CUDA, none elsewhere."""
    if device.type != "cuda":
        return None
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A model that torch compiles when it is first called; a `CapetownError` if it cannot."""
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    fast = torch.compile(model)

    def forward(images: Tensor) -> Tensor:
        try:
            logits: Tensor = fast(images)
        except TorchDynamoException as error:
            raise CapetownError(
                f"train.compile: torch cannot compile the model ({str(error).splitlines()[0]}): "
                "install a C++ compiler, such as g++, or set train.compile=false."
            ) from error
        return logits

    return forward


@contextmanager
def memory_errors(what: str, remedy: str = "lower train.image_size") -> Iterator[None]:
    """Say in one line what does not fit into a device's memory, and what would make it."""
    try:
        yield
    except RuntimeError as error:
        # An error of its own on CUDA, but not on MPS.
        if "out of memory" not in str(error):
            raise
        raise CapetownError(
            f"out of memory on the device with {what}: {remedy}, or use device=cpu."
        ) from error
