"""What a device can do, and a forward pass in the precision that suits it."""

from collections.abc import Callable

import torch
from torch import Tensor


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a GPU, or a CPU of type x86, has units for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(unit, False) for unit in ("amx_bf16", "avx512_bf16"))


def describe(device: torch.device) -> str:
    """A description of the hardware, for the card and the reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    units = torch.cpu.get_capabilities()
    best = next((unit for unit in ("amx_bf16", "avx512_bf16") if units.get(unit)), "float32")
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {best}"


def forward(net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """A network's logits as float32, computed in bfloat16 if the device is fast at that."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=has_fast_bfloat16(images.device)):
        logits = net(images)
    return logits.float()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that a GPU's memory is full. PyTorch and CUDA's libraries say so differently."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "ALLOC_FAILED" in said
