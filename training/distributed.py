"""Several processes that train one network, started by torchrun. Without torchrun there is one process."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


@contextmanager
def join() -> Generator[torch.device]:
    """Join the other processes of torchrun, if there are any; yields this process's device."""
    if "RANK" not in os.environ:
        yield torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else None
    if device:
        torch.cuda.set_device(device)  # else each process would also take memory of the first GPU
    dist.init_process_group("nccl" if device else "gloo", device_id=device)
    try:
        yield device or torch.device("cpu")
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def add(values: Tensor) -> None:
    """Add up the values of all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)


def synchronise(net: nn.Module) -> None:
    """Add up the gradients and average the batch norms' statistics, so that all processes take the same step.

    All tensors travel in one exchange.
    """
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    statistics = [b for b in net.buffers() if b.is_floating_point()]
    tensors = [*gradients, *statistics]
    flat = torch.cat([t.flatten() for t in tensors])
    add(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
    for tensor in statistics:
        tensor /= size()
