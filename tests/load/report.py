"""The report of the benchmark: figures in sentences and Markdown tables."""

import statistics
from collections.abc import Sequence

from tests.load.backlog import Backlog
from tests.load.history import HistoryFigures
from tests.load.measure import Case, Measurement
from tests.load.result import FULL_LOAD, Result, median
from tests.load.streams import Streams

GROUPS = ("proxy", "backend", "database", "broker", "worker", "flower")
LOAD = ("size", "files", "clients")
FIGURES = ("system", "images/s", "p50 ms", "p99 ms", "batch", "CPU-ms", "CPU ratio", "p50 ratio")
READS = ("read", "n", "HTTP", "p50 ms", "slowest ms", "prediction's p50 ms", "prediction's p95 ms")


def render(result: Result) -> str:
    """Text with Markdown tables, which docs/performance.md shows as they are."""
    machine = result.machine
    everything = [*result.service.values(), *result.litserve.values()]
    others = [measurement.other_cores for measurements in everything for measurement in measurements]
    group_rows = [
        [*load_of(case), *(f"{group_ms(found, group):.2f}" for group in GROUPS)]
        for case, found in result.service.items()
    ]
    parts = [
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores ({', '.join(machine['cpu_flags'])}), "
        f"commit {machine['commit']}.",
        f"Model alone, batches of 64, one thread: {result.model_cpu_ms:.2f} CPU-ms an image.",
        "At rest: "
        + ", ".join(f"{name} {cores:.2f} cores" for name, cores in result.idle_cores.items())
        + ".",
        f"Load generator and other work used {max(0, min(others)):.1f} to {max(others):.1f} cores; "
        f"load average before: {machine['load_average']:.1f}.",
        align([(*LOAD, *FIGURES), *(row for case in result.service for row in rows_of(result, case))]),
        "A ratio is this service divided by LitServe. CPU-ms are for one image. LitServe takes one file a",
        f"request, so rows with more files are compared with its row of {FULL_LOAD} clients.",
        "CPU-ms of this service by part of the system:",
        align([(*LOAD, *GROUPS), *group_rows]),
        *([render_streams(result.streams)] if result.streams else []),
        *([render_backlog(result.backlog)] if result.backlog else []),
        *([render_history(result.history)] if result.history else []),
    ]
    return "\n".join(parts)


def load_of(case: Case) -> list[str]:
    return [case.size, f"{case.files}", f"{case.clients}"]


def rows_of(result: Result, case: Case) -> list[list[str]]:
    ratios = result.ratios(case)
    ours = [*cells_of(case, result.service[case]), f"{ratios['cpu']:.2f}"]
    ours += [f"{ratios['p50']:.2f}"] if "p50" in ratios else []
    return [ours, cells_of(case, result.litserve[case])] if case in result.litserve else [ours]


def cells_of(case: Case, found: Sequence[Measurement]) -> list[str]:
    return [
        *load_of(case),
        found[0].system,
        f"{median(found, 'images_per_second'):.0f}",
        f"{median(found, 'p50_ms'):.1f}",
        f"{median(found, 'p99_ms'):.1f}",
        f"{median(found, 'batch_size'):.1f}",
        f"{median(found, 'all_cpu_ms'):.2f}",
    ]


def group_ms(found: Sequence[Measurement], group: str) -> float:
    return statistics.median(measurement.cpu_ms[group] for measurement in found)


def render_streams(found: Streams) -> str:
    return (
        f"\n{found.followers} followers of /api/events, {found.predictions_per_second:.0f} predictions/s: "
        f"commit to arrival p50 {found.delay_p50_ms:.0f} ms, p95 {found.delay_p95_ms:.0f} ms.\n"
        f"A follower missed at most {found.missed} of {found.outcomes} outcomes. The backend used "
        f"{found.backend_us:.0f} µs for each follower and outcome.\n"
        f"A prediction's p50: {found.p50_ms:.1f} ms; without followers {found.alone_p50_ms:.1f} ms."
    )


def render_backlog(found: Backlog) -> str:
    return (
        f"\nBacklog of {found.predictions}: accepted {found.accepted_per_second:.0f}/s, finished "
        f"{found.finished_per_second:.0f}/s.\nSingle uploads meanwhile (n = {found.single}): p50 "
        f"{found.single_p50_ms:.0f} ms, p95 {found.single_p95_ms:.0f} ms."
    )


def render_history(found: HistoryFigures) -> str:
    rows = [
        [
            name,
            f"{sum(read.statuses.values())}",
            "/".join(read.statuses),
            *(
                f"{ms:.1f}"
                for ms in (read.p50_ms, read.slowest_ms, read.prediction_p50_ms, read.prediction_p95_ms)
            ),
        ]
        for name, read in found.reads.items()
    ]
    return (
        f"\nA history of {found.rows} rows. "
        f"A prediction's p50 without reads: {found.alone_p50_ms:.1f} ms.\n"
        f"{align([READS, *rows])}\n"
        f"CSV: {found.export_rows_per_second:.0f} rows/s; a prediction meanwhile p50 "
        f"{found.export_prediction_p50_ms:.1f} ms, p95 {found.export_prediction_p95_ms:.1f} ms."
    )


def align(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up. The first row is its head. Short rows get empty cells."""
    full = [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows]
    widths = [max(len(row[place]) for row in full) for place in range(len(full[0]))]
    lines = ["| " + " | ".join(map(str.rjust, row, widths)) + " |" for row in full]
    return "\n".join(
        [lines[0], "| " + " | ".join("-" * (width - 1) + ":" for width in widths) + " |", *lines[1:]]
    )
