"""How the backend reads GPUs. Most tests use a process in which pynvml loads a stand-in for NVIDIA's library.

`reader.behave` writes rules for the stand-in; nvml_stand_in.c explains their form.
"""

import ctypes
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pynvml
import pytest

from backend.gpus import Gpus
from tests.backend.gpu_reader_client import ANSWER_SECONDS, LIBRARY, Reader
from tests.conftest import eventually

GIB = 2**30

HANG_SECONDS = 0.2
"""How long a test waits to see that no answer comes."""

FIRST = {
    "index": 0,
    "name": "Stand-in 0",
    "memory_used_bytes": 1 * GIB,
    "memory_total_bytes": 16 * GIB,
    "utilization_percent": 0,
    "temperature_c": 40,
    "power_w": 100.5,
    "processes": [],
    "mig_mode": "off",
    "mig_devices": [],
    "detail": None,
}
SECOND = {
    "index": 1,
    "name": "Stand-in 1",
    "memory_used_bytes": 2 * GIB,
    "memory_total_bytes": 32 * GIB,
    "utilization_percent": 90,
    "temperature_c": 41,
    "power_w": 100.501,
    "processes": [
        {"pid": 4001, "memory_used_bytes": GIB // 2},
        {"pid": 4002, "memory_used_bytes": None},
    ],
    "mig_mode": "off",
    "mig_devices": [],
    "detail": None,
}
LOST = {**dict.fromkeys(FIRST), "mig_devices": []}
StartReader = Callable[..., Awaitable[Reader]]


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled stand-in."""
    library = tmp_path_factory.mktemp("nvml") / LIBRARY
    source = Path(__file__).with_name("nvml_stand_in.c")
    flags = ("-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{LIBRARY}")
    subprocess.run(("cc", *flags, "-o", library, source), check=True)
    return library


@pytest.fixture
async def start_reader(tmp_path: Path, stand_in: Path) -> AsyncGenerator[StartReader]:
    """Start a reader with or without a driver. At the end it must exit without errors."""
    reader = Reader(tmp_path, stand_in)

    async def start(*, installed: bool = True) -> Reader:
        if installed:
            reader.install_driver()
        await reader.start()
        return reader

    yield start
    assert await reader.end() == (0, "")


@pytest.fixture
async def reader(start_reader: StartReader) -> Reader:
    return await start_reader()


async def test_every_figure_of_every_gpu_is_read(reader: Reader) -> None:
    assert await reader.read_one() == [FIRST, SECOND]
    assert await reader.read_one() == [FIRST, SECOND]
    assert reader.count_calls("nvmlInitWithFlags") == 1


async def test_unsupported_figures_are_null_and_the_others_are_present(reader: Reader) -> None:
    figures = {
        "nvmlDeviceGetName": ["name"],
        "nvmlDeviceGetMemoryInfo": ["memory_used_bytes", "memory_total_bytes"],
        "nvmlDeviceGetUtilizationRates": ["utilization_percent"],
        "nvmlDeviceGetPowerUsage": ["power_w"],
        "nvmlDeviceGetComputeRunningProcesses_v3": ["processes"],
        "nvmlDeviceGetMigMode": ["mig_mode"],
    }
    for function, missing in figures.items():
        reader.behave(f"{function} 1 {pynvml.NVML_ERROR_NOT_SUPPORTED}")
        assert await reader.read_one() == [FIRST, SECOND | dict.fromkeys(missing)]


async def test_a_name_that_is_not_utf_8_is_null_and_other_figures_are_present(reader: Reader) -> None:
    reader.behave("latin-1 0 on")
    assert await reader.read_one() == [FIRST | {"name": None}, SECOND]
    reader.behave("latin-1 * on", "mig 1 on")
    mig_device = {"name": None, "memory_used_bytes": 0, "memory_total_bytes": 5 * GIB}
    mig = {"utilization_percent": None, "mig_mode": "on", "mig_devices": [mig_device, mig_device]}
    assert await reader.read_one() == [FIRST | {"name": None}, SECOND | {"name": None} | mig]
    reader.behave()
    assert await reader.read_one() == [FIRST, SECOND]
    assert reader.count_calls("nvmlInitWithFlags") == 1


async def test_the_temperature_is_read_with_the_old_call_if_the_new_one_fails(reader: Reader) -> None:
    reader.behave(f"nvmlDeviceGetTemperatureV * {pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}")
    assert await reader.read_one() == [FIRST, SECOND]
    reader.behave(
        f"nvmlDeviceGetTemperatureV 0 {pynvml.NVML_ERROR_NOT_SUPPORTED}",
        f"nvmlDeviceGetTemperature 0 {pynvml.NVML_ERROR_NOT_SUPPORTED}",
    )
    assert await reader.read_one() == [FIRST | {"temperature_c": None}, SECOND]


async def test_mig_mode_is_reported_with_its_devices(reader: Reader) -> None:
    reader.behave("mig 1 on")
    mig_device = {"name": "Stand-in 1 MIG 1g.5gb", "memory_used_bytes": 0, "memory_total_bytes": 5 * GIB}
    mig = {"utilization_percent": None, "mig_mode": "on", "mig_devices": [mig_device, mig_device]}
    assert await reader.read_one() == [FIRST, SECOND | mig]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_UNKNOWN, "NVML was lost: Unknown Error. Each request tries again"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "the NVIDIA driver is installed but not loaded"),
        (pynvml.NVML_ERROR_UNINITIALIZED, "NVML was lost: Uninitialized. Each request tries again"),
    ],
)
async def test_a_driver_that_is_lost_gives_a_reason_until_it_is_back(
    reader: Reader, code: int, reason: str
) -> None:
    assert await reader.read_one() == [FIRST, SECOND]
    reader.behave(f"* * {code}")
    assert await reader.read_one() == reason
    assert (await reader.read_one()).startswith(("NVML cannot be initialized: ", "the NVIDIA driver"))
    reader.behave()
    assert await reader.read_one() == [FIRST, SECOND]


async def test_a_lost_gpu_does_not_hide_the_others_and_comes_back(reader: Reader) -> None:
    reader.behave(f"* 0 {pynvml.NVML_ERROR_GPU_IS_LOST}")
    assert await reader.read_one() == [LOST | {"index": 0, "detail": "NVML says: GPU is lost"}, SECOND]
    reader.behave(f"nvmlDeviceGetPowerUsage 1 {pynvml.NVML_ERROR_GPU_IS_LOST}")
    assert await reader.read_one() == [FIRST, LOST | {"index": 1, "detail": "NVML says: GPU is lost"}]
    reader.behave()
    assert await reader.read_one() == [FIRST, SECOND]
    assert reader.count_calls("nvmlInitWithFlags") == 3


async def test_an_unknown_error_hides_one_figure_and_restarts_nvml(reader: Reader) -> None:
    reader.behave(f"nvmlDeviceGetPowerUsage 0 {pynvml.NVML_ERROR_UNKNOWN}")
    without_power = FIRST | {"power_w": None, "detail": "NVML says: Unknown Error"}
    assert await reader.read_one() == [without_power, SECOND]
    assert await reader.read_one() == [without_power, SECOND]
    assert reader.count_calls("nvmlInitWithFlags") == 2


async def test_the_reason_names_the_missing_driver_until_it_is_installed(start_reader: StartReader) -> None:
    reader = await start_reader(installed=False)
    reason = "no NVIDIA driver is installed (libnvidia-ml.so.1 is missing)"
    assert await reader.read_one() == reason
    assert await reader.read_one() == reason
    reader.install_driver()
    assert await reader.read_one() == [FIRST, SECOND]


async def test_concurrent_requests_share_a_read(reader: Reader) -> None:
    assert await reader.read(3) == [[FIRST, SECOND]] * 3
    assert reader.count_calls("nvmlDeviceGetCount_v2") == 1


async def test_no_read_starts_while_another_hangs(reader: Reader) -> None:
    reader.behave("nvmlDeviceGetPowerUsage 1 hang")
    assert await reader.read(deadline_seconds=HANG_SECONDS) == [None]
    await reader.wait_for_calls(2, "nvmlDeviceGetPowerUsage")
    assert await reader.read(deadline_seconds=HANG_SECONDS) == [None]
    assert reader.count_calls("nvmlDeviceGetCount_v2") == 1
    reader.behave()

    async def answered() -> bool:
        return await reader.read_one() == [FIRST, SECOND]

    await eventually(answered, ANSWER_SECONDS)


async def test_a_read_that_hangs_does_not_prevent_the_exit(reader: Reader) -> None:
    reader.behave("nvmlInitWithFlags * hang")
    assert await reader.read(deadline_seconds=HANG_SECONDS) == [None]
    await reader.wait_for_calls(1, "nvmlInitWithFlags")
    assert await reader.end() == (0, "")


async def test_closing_stops_nvml(reader: Reader) -> None:
    await reader.read_one()
    assert await reader.end() == (0, "")
    assert reader.count_calls("nvmlShutdown") == 1


async def test_closing_returns_although_nvml_hangs(reader: Reader) -> None:
    await reader.read_one()
    reader.behave("nvmlShutdown * hang")
    assert await reader.end() == (0, "")


async def test_the_real_gpus_of_this_machine_are_read() -> None:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        pytest.skip("no NVIDIA driver is installed")
    gpus = Gpus()
    for index, gpu in enumerate(await gpus.read()):
        assert gpu.index == index and gpu.name and gpu.detail is None
    gpus.close()
