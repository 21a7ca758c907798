"""Reads NVIDIA GPUs from NVML. NVML may be missing, fail or hang."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import pynvml
from pynvml import NVMLError

from backend.errors import Unavailable
from backend.schemas.health import Gpu, GpuProcess, MigDevice

T = TypeVar("T")

CLOSE_SECONDS = 0.5

REASONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed (libnvidia-ml.so.1 is missing)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver and its library have different versions. "
    "Restart the backend. If that does not help, restart the machine",
}
DRIVER_LOST = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
GPU_LOST = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED}


class Gpus:
    """All GPUs. One read runs at a time. NVML starts at the first read, and again after a failure.

    A call into a faulty driver can block for ever. So NVML is used in daemon threads, which do not delay the
    exit. The caller must not start a read while another one hangs: each hanging read keeps a thread.
    """

    def __init__(self) -> None:
        self._running = False
        self._turn = threading.Lock()

    async def read(self) -> list[Gpu]:
        """All GPUs by index, at least one. Takes as long as NVML does. Raises Unavailable."""
        return await asyncio.wrap_future(self._run_aside(self._read))

    def close(self) -> None:
        """Stop NVML, and wait at most half a second. A read that hangs ends with the process."""
        with suppress(TimeoutError):
            self._run_aside(self._stop).result(CLOSE_SECONDS)

    def _run_aside(self, work: Callable[[], T]) -> Future[T]:
        """Run blocking work in a daemon thread, after earlier work has ended."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            with self._turn:
                try:
                    future.set_result(work())
                except Exception as error:
                    future.set_exception(error)

        threading.Thread(target=run, name="nvml", daemon=True).start()
        return future

    def _read(self) -> list[Gpu]:
        try:
            if not self._running:
                pynvml.nvmlInit()  # looks for the library at each read until it is found
                self._running = True
            devices = [Device(index) for index in range(pynvml.nvmlDeviceGetCount())]
            gpus = [device.describe() for device in devices]
        except NVMLError as error:
            happened = "was lost" if self._running else "cannot be initialized"
            reason = REASONS.get(code(error), f"NVML {happened}: {error}. Each request tries again")
            self._stop()
            raise Unavailable(reason) from error
        if any(device.trouble for device in devices):
            self._stop()  # the next read starts NVML again
        if not gpus:
            raise Unavailable("the NVIDIA driver answers but shows no GPU")
        return gpus

    def _stop(self) -> None:
        """Stop NVML, in any state."""
        if self._running:
            self._running = False
            with suppress(NVMLError):
                pynvml.nvmlShutdown()


class Device:
    """One GPU. Any figure may be missing. NVMLError is raised if the driver has failed."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.trouble: NVMLError | None = None
        """An error after which NVML should be started again."""

    def describe(self) -> Gpu:
        """The figures, or the index and the reason if the GPU cannot be read. Blocks. Raises NVMLError."""
        try:
            return self._measure(pynvml.nvmlDeviceGetHandleByIndex(self._index))
        except NVMLError as error:
            if code(error) in DRIVER_LOST:
                raise
            self.trouble = error
        nothing = dict.fromkeys(Gpu.model_fields)
        known = {"index": self._index, "mig_devices": [], "detail": f"NVML says: {self.trouble}"}
        return Gpu.model_validate({**nothing, **known})

    def _measure(self, handle: Any) -> Gpu:
        ask = self._ask
        memory = ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
        mig = ask(pynvml.nvmlDeviceGetMigMode, handle)
        mig_on = mig is not None and mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE
        utilization = None if mig_on else ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
        temperature = ask(pynvml.nvmlDeviceGetTemperatureV, handle, pynvml.NVML_TEMPERATURE_GPU)
        if temperature is None:  # an older driver lacks the newer call
            temperature = ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
        milliwatts = ask(pynvml.nvmlDeviceGetPowerUsage, handle)
        processes = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
        return Gpu(
            index=self._index,
            name=ask(pynvml.nvmlDeviceGetName, handle),
            memory_used_bytes=memory and memory.used,
            memory_total_bytes=memory and memory.total,
            utilization_percent=utilization and utilization.gpu,
            temperature_c=temperature,
            power_w=None if milliwatts is None else milliwatts / 1000,
            processes=processes
            and [
                GpuProcess(pid=process.pid, memory_used_bytes=process.usedGpuMemory) for process in processes
            ],
            mig_mode=None if mig is None else "on" if mig_on else "off",
            mig_devices=self._list_mig_devices(handle) if mig_on else [],
            detail=f"NVML says: {self.trouble}" if self.trouble else None,
        )

    def _list_mig_devices(self, handle: Any) -> list[MigDevice]:
        """The MIG devices that exist. A GPU has a fixed number of places, and some may be free."""
        places = range(self._ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0)
        handles = [self._ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place) for place in places]
        return [self._measure_mig(mig) for mig in handles if mig is not None]

    def _measure_mig(self, handle: Any) -> MigDevice:
        memory = self._ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
        return MigDevice(
            name=self._ask(pynvml.nvmlDeviceGetName, handle),
            memory_used_bytes=memory and memory.used,
            memory_total_bytes=memory and memory.total,
        )

    def _ask(self, getter: Callable[..., Any], *arguments: Any) -> Any:
        """The value of a getter, or None if it fails. Raises NVMLError if the driver or the GPU is lost."""
        try:
            return getter(*arguments)
        except NVMLError as error:
            if code(error) in DRIVER_LOST | GPU_LOST:
                raise
            if code(error) == pynvml.NVML_ERROR_UNKNOWN:
                self.trouble = error
            return None
        except UnicodeDecodeError:  # pynvml reads every text as UTF-8
            return None


def code(error: NVMLError) -> int:
    """An error's NVML_ERROR_ constant. pyright does not know `value`: pynvml sets it in `__new__`."""
    return error.value  # pyright: ignore
