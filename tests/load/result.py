"""What a run measured: every measurement, and the ratios of this service to LitServe."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.load.backlog import Backlog
from tests.load.history import HistoryFigures
from tests.load.measure import Case, Measurement
from tests.load.streams import Streams

FULL_LOAD = 64  # clients


def reference(case: Case) -> Case:
    """The load of LitServe that is compared with `case`. LitServe takes one file in each request."""
    return case if case.files == 1 else Case(case.size, 1, FULL_LOAD)


@dataclass
class Result:
    """One run. Measurements are listed round by round."""

    machine: Mapping[str, Any]
    seconds: float
    """The duration of one measurement."""
    model_cpu_ms: float
    """CPU time of the model alone for an image, in batches of 64 on one thread."""
    idle_cores: Mapping[str, float]
    """Cores that each system uses while idle."""
    service: dict[Case, list[Measurement]] = field(default_factory=dict[Case, list[Measurement]])
    litserve: dict[Case, list[Measurement]] = field(default_factory=dict[Case, list[Measurement]])
    streams: Streams | None = None
    backlog: Backlog | None = None
    history: HistoryFigures | None = None

    def ratios(self, case: Case) -> dict[str, float]:
        """This service's medians divided by LitServe's. Latencies only if both have the same load."""
        ours, theirs = self.service[case], self.litserve[reference(case)]
        ratios = {"cpu": median(ours, "all_cpu_ms") / median(theirs, "all_cpu_ms")}
        if reference(case) == case:
            ratios["p50"] = median(ours, "p50_ms") / median(theirs, "p50_ms")
        return ratios

    def to_json(self) -> dict[str, Any]:
        cases = [
            {
                **asdict(case),
                "service": [asdict(one) | {"all_cpu_ms": one.all_cpu_ms} for one in measurements],
                "litserve": [
                    asdict(one) | {"all_cpu_ms": one.all_cpu_ms} for one in self.litserve[reference(case)]
                ],
                "litserve_clients": reference(case).clients,
                "ratios": self.ratios(case),
            }
            for case, measurements in self.service.items()
        ]
        further = {
            name: asdict(found)
            for name, found in (
                ("streams", self.streams),
                ("backlog", self.backlog),
                ("history", self.history),
            )
            if found
        }
        return {
            "machine": self.machine,
            "seconds": self.seconds,
            "model_cpu_ms": self.model_cpu_ms,
            "idle_cores": self.idle_cores,
            "cases": cases,
            **further,
        }


def median(measurements: Sequence[Measurement], figure: str) -> float:
    """The median of one figure over the rounds."""
    return statistics.median(getattr(measurement, figure) for measurement in measurements)
