"""The GPU in PyTorch, or the CPU if there is no GPU."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from threading import Event, Thread

import torch

NO_GPU = "no GPU here: CUDA finds none"


def choose() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_software() -> str:
    cuda = f", CUDA {torch.version.cuda}" if torch.cuda.is_available() else ""
    return f"PyTorch {torch.__version__}{cuda}"


def matrix_teraflops(kind: torch.dtype, side: int, device: torch.device, repeats: int = 10) -> float:
    """The speed of a square matrix product, in 10^12 operations a second."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.float32).to(kind) for _ in range(2))
    for _ in range(3):
        torch.matmul(a, b)
    synchronise(device)
    started = time.perf_counter()
    for _ in range(repeats):
        torch.matmul(a, b)
    synchronise(device)
    return 2 * side**3 * repeats / (time.perf_counter() - started) / 1e12


@contextmanager
def under_load(device: torch.device) -> Generator[None]:
    """Keep the GPU busy with matrix products."""
    ending = Event()

    def multiply() -> None:
        a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
        while not ending.is_set():
            torch.matmul(a, a)
            synchronise(device)

    thread = Thread(target=multiply)
    thread.start()
    time.sleep(1.5)  # NVML's utilization is a mean over up to a second
    try:
        yield
    finally:
        ending.set()
        thread.join()
