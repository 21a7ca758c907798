"""The part `nvml`: compares the GPUs in the health report with nvidia-smi, idle and under load."""

import asyncio
import shutil
import subprocess
import sys
from dataclasses import dataclass

from backend.errors import Unavailable
from backend.gpus import Gpus
from backend.schemas.health import Gpu
from tests.gpu.findings import report_check, report_figure, report_skipped
from tests.gpu.options import decode

QUERY = (
    "name", "memory.total", "memory.used", "memory.reserved", "utilization.gpu", "temperature.gpu",
    "power.draw",
)  # fmt: skip
MIB = 2**20
TRIES = 5
# How far two readings may differ. They are not simultaneous.
MEMORY_MIB, TEMPERATURE_C, POWER_SHARE, POWER_W, UTILIZATION_POINTS = 64, 4, 0.25, 20, 30
BUSY_PERCENT = 50


@dataclass(frozen=True)
class SmiReading:
    """The figures of one GPU in nvidia-smi. None: nvidia-smi has no figure."""

    name: str
    memory_total_mib: float | None
    memory_used_mib: float | None
    memory_reserved_mib: float | None
    utilization_percent: float | None
    temperature_c: float | None
    power_w: float | None


def parse_smi(text: str) -> list[SmiReading]:
    """The GPUs of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    return [
        SmiReading(
            name,
            parse_figure(total),
            parse_figure(used),
            parse_figure(reserved),
            parse_figure(utilization),
            parse_figure(temperature),
            parse_figure(power),
        )
        for name, total, used, reserved, utilization, temperature, power in rows
    ]


def parse_figure(cell: str) -> float | None:
    """The number in a cell. None if nvidia-smi has no figure and writes a text such as [N/A]."""
    try:
        return float(cell)
    except ValueError:
        return None


def ask_smi() -> list[SmiReading]:
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    return parse_smi(subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout)


def compare(gpu: Gpu, smi: SmiReading) -> list[str]:
    """The differences between the report and nvidia-smi, in words."""
    power_margin = max(POWER_W, POWER_SHARE * (smi.power_w or 0))
    checks = (
        ("total memory in MiB", _mib(gpu.memory_total_bytes), smi.memory_total_mib, 1),
        ("used memory in MiB", _mib(gpu.memory_used_bytes), expect_used_mib(gpu, smi), MEMORY_MIB),
        ("temperature in °C", gpu.temperature_c, smi.temperature_c, TEMPERATURE_C),
        ("power in W", gpu.power_w, smi.power_w, power_margin),
        ("utilization in percent", gpu.utilization_percent, smi.utilization_percent, UTILIZATION_POINTS),
    )
    names = [] if gpu.name == smi.name else [f"the name is {gpu.name!r}, not {smi.name!r}"]
    return names + [
        f"{what} is {ours}, not {theirs}"
        for what, ours, theirs, margin in checks
        if differ(ours, theirs, margin)
    ]


def expect_used_mib(gpu: Gpu, smi: SmiReading) -> float | None:
    """The used memory in MiB that the report should have. The driver's reserve may be included or not."""
    ours, used = _mib(gpu.memory_used_bytes), smi.memory_used_mib
    if ours is None or used is None:
        return used
    return max(used, min(ours, used + (smi.memory_reserved_mib or 0)))


def differ(ours: float | None, theirs: float | None, margin: float) -> bool:
    """Whether two readings differ by more than a margin, or only one of them has a figure."""
    if ours is None or theirs is None:
        return ours is not theirs
    return abs(ours - theirs) > margin


def _mib(count: int | None) -> float | None:
    return None if count is None else count / MIB


async def check(when: str, gpus: Gpus, *, busy: bool) -> None:
    """Compare up to TRIES times, because the two readings are not simultaneous."""
    differences, read = ["nothing was read"], list[Gpu]()
    for _ in range(TRIES):
        read, smi = await gpus.read(), await asyncio.to_thread(ask_smi)
        differences = [f"{len(read)} GPUs, not {len(smi)}"] if len(read) != len(smi) else []
        for ours, theirs in zip(read, smi, strict=False):
            differences += compare(ours, theirs)
        if not differences:
            break
        await asyncio.sleep(0.5)
    text = "; ".join(differences) or "; ".join(_describe(gpu) for gpu in read)
    values = {"gpus": [gpu.model_dump() for gpu in read]}
    report_check(f"report, {when}", text, "nvidia-smi's figures", passed=not differences, **values)
    if busy:
        percent = read[0].utilization_percent
        passed = percent is None or percent >= BUSY_PERCENT
        report_check(
            "utilization under load", f"{percent}%", f"{BUSY_PERCENT}%", passed=passed, percent=percent
        )


def _describe(gpu: Gpu) -> str:
    memory = f"{_mib(gpu.memory_used_bytes) or 0:,.0f} of {_mib(gpu.memory_total_bytes) or 0:,.0f} MiB"
    return f"{gpu.name}, {memory}, {gpu.utilization_percent}%, {gpu.temperature_c} °C, {gpu.power_w} W"


async def run() -> None:
    gpus = Gpus()
    try:
        await gpus.read()
    except Unavailable as error:
        report_skipped("report", f"no GPU here: {error}")
        return
    if shutil.which("nvidia-smi") is None:
        report_skipped("report", "nvidia-smi is not installed here, so there is nothing to compare with")
        return
    from tests.gpu import device  # loading torch takes seconds

    await check("idle", gpus, busy=False)
    if device.choose().type == "cuda":
        report_figure("software", device.describe_software())
        with device.under_load(device.choose()):
            await check("under load", gpus, busy=True)
    else:
        report_check("load", "NVML shows a GPU, but CUDA finds none", "a GPU that computes", passed=False)
    gpus.close()


if __name__ == "__main__":
    decode(sys.argv[1])
    asyncio.run(run())
