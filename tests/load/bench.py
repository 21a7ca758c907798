"""`make bench`: this service and LitServe with the same model, in turn, in one run.

Each client sends an upload, takes the answer, sends the next. Machines are noisy: compare ratios.
docs/performance.md describes the method.
"""

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from tqdm import tqdm

from images.decode import decode
from inference.classifier import Loader
from scripts.local.config import REPOSITORY, Config
from tests.conftest import SHIPPED_MODEL
from tests.load import photos, plot, report
from tests.load.backlog import measure_backlog
from tests.load.history import measure_history
from tests.load.machine import describe
from tests.load.measure import Case, measure
from tests.load.result import Result, reference
from tests.load.streams import measure_streams
from tests.load.systems import CPU_THREADS, LitServe, System, run_litserve, run_service

RESULT = REPOSITORY / ".local/bench/result.json"
MODEL_BATCH, MODEL_REPEATS = 64, 15
CLIENTS_OF_MANY_FILES = 4
IDLE_SECONDS = 5
SPARE = 1000  # unfinished predictions that are accepted beyond the backlog


def main() -> None:
    options = read_options()
    machine = describe()
    model_cpu_ms = measure_model()
    with run_service(max(10_000, options.backlog + SPARE)) as (service, config), run_litserve() as litserve:
        result = Result(machine, options.seconds, model_cpu_ms, measure_idle(service, litserve))
        uvloop.run(compare(result, service, litserve, plan(options.clients, options.files) * options.rounds))
        litserve.pause()
        uvloop.run(measure_further(result, service, config, options))
        litserve.resume()
    print(f"\n{report.render(result)}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result.to_json(), indent=2) + "\n")
    options.json.with_suffix(".svg").write_text(plot.draw(result))
    print(f"\nEvery figure, and a plot: {options.json}, {options.json.with_suffix('.svg')}")


def read_options() -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=layout)
    parser.add_argument("--clients", type=read_numbers, help="default: 1,16,64,256; with --quick 1,64")
    parser.add_argument("--files", type=read_numbers, default=[1, 32], help="in a request; default: 1,32")
    parser.add_argument("--rounds", type=int, default=1, help="how often each load is measured; default: 1")
    parser.add_argument(
        "--streams", type=int, default=0, metavar="N", help="measure N followers of /api/events, too"
    )
    parser.add_argument(
        "--backlog", type=int, default=0, metavar="N", help="measure a backlog of N images, too"
    )
    parser.add_argument("--rows", type=int, default=0, metavar="N", help="measure a history of N rows, too")
    parser.add_argument("--quick", action="store_true", help="about one minute, and less certain")
    parser.add_argument(
        "--json", type=Path, default=RESULT, metavar="PATH", help="default: .local/bench/result.json"
    )
    options = parser.parse_args()
    options.clients = options.clients or ([1, 64] if options.quick else [1, 16, 64, 256])
    options.seconds = 2.0 if options.quick else 8.0
    return options


def read_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def plan(clients: Sequence[int], files: Sequence[int]) -> list[Case]:
    """The loads of one round."""
    single = [Case(size, 1, count) for size in photos.SIZES for count in clients if 1 in files]
    several = [
        Case(size, count, CLIENTS_OF_MANY_FILES) for size in photos.SIZES for count in files if count > 1
    ]
    return single + several


async def compare(result: Result, service: System, litserve: LitServe, cases: Sequence[Case]) -> None:
    """Measure each case with this service, then with LitServe, and add both to `result`."""
    for case in tqdm(cases, unit="case"):
        litserve.pause()
        measured = result.service.setdefault(case, [])
        measured.append(await measure(service, case, result.seconds))
        litserve.resume()
        theirs = result.litserve.setdefault(reference(case), [])
        # LitServe runs this load once a round, even if several cases are compared with it.
        if len(theirs) < len(measured):
            theirs.append(await measure(litserve, reference(case), result.seconds))


async def measure_further(
    result: Result, service: System, config: Config, options: argparse.Namespace
) -> None:
    """What only this service has: live status, a backlog, a history."""
    if options.streams:
        print(f"{options.streams} followers")
        result.streams = await measure_streams(service, options.streams, result.seconds)
    if options.backlog:
        print(f"a backlog of {options.backlog}")
        result.backlog = await measure_backlog(service, config, options.backlog)
    if options.rows:
        result.history = await measure_history(service, config, options.rows)


def measure_model() -> float:
    """CPU time of the model alone for an image, in ms."""
    classifier = Loader(CPU_THREADS, MODEL_BATCH).load(SHIPPED_MODEL)
    pixels = [decode(image, max_pixels=10**6) for image in photos.read_images("32x32")]
    batch = list(itertools.islice(itertools.cycle(pixels), MODEL_BATCH))
    started = time.process_time()
    for _ in range(MODEL_REPEATS):
        classifier(batch)
    return (time.process_time() - started) * 1000 / (MODEL_REPEATS * MODEL_BATCH)


def measure_idle(*systems: System) -> dict[str, float]:
    """Cores that each system uses while idle."""
    before = [system.read_cpu() for system in systems]
    time.sleep(IDLE_SECONDS)
    used = [system.read_cpu() - earlier for system, earlier in zip(systems, before, strict=True)]
    return {system.name: spent.serving / IDLE_SECONDS for system, spent in zip(systems, used, strict=True)}


if __name__ == "__main__":
    main()
