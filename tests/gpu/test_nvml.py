"""The comparison of the health report with examples of nvidia-smi's output."""

from typing import Any

import pytest

from backend.schemas.health import Gpu
from tests.gpu.nvml import MIB, compare, parse_smi

# Name; total, used and reserved memory in MiB; utilization in percent; temperature in °C; power in W.
TEXT = "NVIDIA H100 80GB HBM3, 81559, 1200, 511, 97, 54, 612.53\n"
H100 = Gpu(
    index=0, name="NVIDIA H100 80GB HBM3", memory_used_bytes=1711 * MIB, memory_total_bytes=81559 * MIB,
    utilization_percent=95, temperature_c=54, power_w=640.1, processes=[], mig_mode="off", mig_devices=[],
    detail=None,
)  # fmt: skip


def test_two_readings_that_differ_slightly_agree() -> None:
    (smi,) = parse_smi(TEXT)
    assert compare(H100, smi) == []


def test_used_memory_may_exclude_the_driver_s_reserve() -> None:
    (smi,) = parse_smi(TEXT)
    assert compare(H100.model_copy(update={"memory_used_bytes": 1190 * MIB}), smi) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"name": "NVIDIA A100"}, "the name is 'NVIDIA A100', not 'NVIDIA H100 80GB HBM3'"),
        ({"memory_used_bytes": 100 * MIB}, "used memory in MiB is 100.0, not 1200.0"),
        ({"memory_used_bytes": 1900 * MIB}, "used memory in MiB is 1900.0, not 1711.0"),
        ({"memory_total_bytes": 100 * MIB}, "total memory in MiB is 100.0, not 81559.0"),
        ({"utilization_percent": 20}, "utilization in percent is 20, not 97.0"),
        ({"utilization_percent": 0}, "utilization in percent is 0, not 97.0"),
        ({"temperature_c": None}, "temperature in °C is None, not 54.0"),
        ({"power_w": 70.5}, "power in W is 70.5, not 612.53"),
    ],
)
def test_a_difference_is_reported_with_both_figures(change: dict[str, Any], difference: str) -> None:
    (smi,) = parse_smi(TEXT)
    assert compare(H100.model_copy(update=change), smi) == [difference]


def test_a_figure_that_nvidia_smi_lacks_must_be_missing_in_the_report() -> None:
    (smi,) = parse_smi("NVIDIA H100 80GB HBM3, 81559, 1200, 511, [N/A], 54, [Not Supported]\n")
    assert compare(H100.model_copy(update={"utilization_percent": None, "power_w": None}), smi) == []
    assert len(compare(H100, smi)) == 2
