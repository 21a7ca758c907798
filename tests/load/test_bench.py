"""The benchmark: its figures and its report, and short runs with this service and with LitServe."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from xml.etree import ElementTree

import asyncpg
import psutil
import pytest

from scripts.local import stack
from scripts.local.config import REPOSITORY, Config, SetupError
from tests.conftest import ended
from tests.load import clients, cpu, plot, report
from tests.load.backlog import Backlog, measure_backlog
from tests.load.history import HistoryFigures, Read, measure_history
from tests.load.measure import Case, Measurement, measure, percentile
from tests.load.result import Result
from tests.load.streams import Follower, Streams, measure_streams
from tests.load.systems import PROGRAMS_OF, find_service, run_litserve

SINGLE, SEVERAL = Case("32x32", 1, 64), Case("32x32", 32, 4)


def test_cpu_time_includes_children_that_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); "
        "print(flush=True); sys.stdin.read()"
    )
    with start_python(parent) as busy, start_python("print(); input()") as idle:
        roots = {"busy": [busy.pid], "idle": [idle.pid]}
        before = cpu.read({"busy": [], "idle": []})
        for process in (busy, idle):
            assert process.stdout is not None
            process.stdout.readline()
        used = cpu.read(roots) - before
        busy.kill()
        idle.kill()
    assert used.groups["busy"] >= 0.3 > used.groups["idle"]
    assert used.serving == used.groups["busy"] + used.groups["idle"]


def start_python(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([1.0], 99) == 1.0
    assert [percentile(list(range(1, 101)), percent) for percent in (0, 50, 95, 100)] == [1, 50, 95, 100]


def build_result() -> Result:
    """Two rounds of SINGLE, and one of SEVERAL.

    By the medians of SINGLE, this service takes half of LitServe's CPU time and 1.5 times its latency.
    """

    def measured(system: str, cpu_ms: dict[str, float], p50: float) -> Measurement:
        return Measurement(
            system,
            images=100,
            images_per_second=50,
            p50_ms=p50,
            p99_ms=2 * p50,
            batch_size=8,
            cpu_ms=cpu_ms,
            other_cores=0.5,
        )

    ours = [measured("service", dict.fromkeys(PROGRAMS_OF, share), 30) for share in (0.2, 0.3)]
    theirs = [measured("LitServe", {"LitServe": 3.0}, 20)] * 2
    machine = {
        "date": "2026-11-26", "cpu": "A & B", "cores": 2, "cpu_flags": [], "commit": "abc",
        "load_average": 0.1,
    }  # fmt: skip
    result = Result(machine, seconds=8, model_cpu_ms=1.3, idle_cores={"service": 0.01, "LitServe": 0.1})
    result.service |= {SINGLE: ours, SEVERAL: ours[:1]}
    result.litserve[SINGLE] = theirs
    result.streams = Streams(
        followers=100,
        predictions_per_second=50,
        delay_p50_ms=7,
        delay_p95_ms=31,
        outcomes=400,
        missed=0,
        alone_p50_ms=10,
        p50_ms=11,
        backend_us=26,
    )
    result.backlog = Backlog(
        predictions=5000,
        accepted_per_second=900,
        finished_per_second=300,
        single=40,
        single_p50_ms=20,
        single_p95_ms=80,
    )
    page = Read({"200": 7}, p50_ms=4, slowest_ms=9, prediction_p50_ms=11, prediction_p95_ms=12)
    result.history = HistoryFigures(
        rows=1300,
        alone_p50_ms=10,
        reads={"page": page},
        export_rows_per_second=6000,
        export_prediction_p50_ms=13,
        export_prediction_p95_ms=14,
    )
    return result


def test_ratios_compare_medians_but_only_single_files_have_a_latency_ratio() -> None:
    result = build_result()
    assert result.ratios(SINGLE) == pytest.approx({"cpu": 1.5 / 3, "p50": 1.5})
    assert result.ratios(SEVERAL) == pytest.approx({"cpu": 1.2 / 3})


def test_each_load_of_a_system_and_each_read_of_the_history_has_a_row() -> None:
    lines = report.render(build_result()).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert ["32x32", "1", "64", "service", "50", "30.0", "60.0", "8.0", "1.50", "0.50", "1.50"] in rows
    assert ["32x32", "1", "64", "LitServe", "50", "20.0", "40.0", "8.0", "3.00", "", ""] in rows
    assert ["32x32", "32", "4", "service", "50", "30.0", "60.0", "8.0", "1.20", "0.40", ""] in rows
    assert ["32x32", "1", "64", *["0.25"] * 6] in rows
    assert ["page", "7", "200", "4.0", "9.0", "11.0", "12.0"] in rows


def test_the_json_has_every_measurement_and_the_ratios() -> None:
    written = json.loads(json.dumps(build_result().to_json()))
    single, several = written["cases"]
    assert [one["all_cpu_ms"] for one in single["service"]] == pytest.approx([1.2, 1.8])
    assert len(single["litserve"]) == 2
    assert (several["files"], several["litserve_clients"]) == (32, 64)
    assert several["ratios"] == pytest.approx({"cpu": 0.4})
    assert (written["streams"]["followers"], written["backlog"]["single"]) == (100, 40)
    assert written["history"]["reads"]["page"]["statuses"] == {"200": 7}


def test_the_plot_is_well_formed_and_has_a_bar_for_each_part_of_the_service() -> None:
    picture = ElementTree.fromstring(plot.draw(build_result()))
    bars = [bar for bar in picture.iter("{http://www.w3.org/2000/svg}rect") if len(bar)]
    assert [bar.get("class") for bar in bars] == [*PROGRAMS_OF, "litserve"] * 2
    assert float(bars[6].get("width", 0)) == pytest.approx(
        2 * sum(float(b.get("width", 0)) for b in bars[:6]), 0.01
    )


def test_a_follower_reads_an_outcome_that_comes_in_two_pieces() -> None:
    follower, now = Follower(), time.time()
    follower.data_received(b'HTTP/1.1 200 OK\r\n\r\nevent: prediction\ndata: {"completed_at": null}\n\n')
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)).encode()
    follower.data_received(b'event: prediction\ndata: {"completed_at":"' + moment[:9])
    assert follower.delays == []
    follower.data_received(moment[9:] + b'Z"}\n\n')
    (delay,) = follower.delays
    assert 0 <= delay < 60_000


async def test_an_answer_without_an_outcome_stops_the_benchmark() -> None:
    async with answering(b'{"status":"queued"}') as port:
        uploads = clients.Uploads([b"POST / HTTP/1.1\r\n\r\n"], 1, b'"status":"succeeded"')
        with pytest.raises(ExceptionGroup) as raised:
            async with clients.running(port, uploads, clients=2):
                await asyncio.sleep(30)
    assert raised.group_contains(SetupError, match="unexpected answer")


@asynccontextmanager
async def answering(body: bytes) -> AsyncGenerator[int]:
    """Runs a server that answers the first request of each connection with `body`. Yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("case", [Case("640x480", 1, 2), Case("32x32", 32, 2)])
async def test_the_service_is_measured(system: Config, case: Case) -> None:
    measured = await measure(find_service(system), case, 0.5)
    assert measured.images >= case.files
    assert 1 <= measured.batch_size <= 64
    assert set(measured.cpu_ms) == set(PROGRAMS_OF)
    assert measured.cpu_ms["worker"] > 0 and measured.cpu_ms["backend"] > 0


async def test_followers_miss_no_outcome(system: Config) -> None:
    measured = await measure_streams(find_service(system), 3, 1)
    assert measured.outcomes > 0
    assert measured.missed == 0


async def test_a_backlog_is_finished_and_single_uploads_are_answered_meanwhile(system: Config) -> None:
    measured = await measure_backlog(find_service(system), system, 300)
    assert measured.single > 0
    assert measured.finished_per_second > 0


async def test_each_read_of_a_long_history_succeeds(system: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.load.history.READ_SECONDS", 0.5)
    service = find_service(system)
    await measure(service, Case("32x32", 1, 2), 0.5)  # predictions to copy
    measured = await measure_history(service, system, 1300)
    database = await asyncpg.connect(system.database_url("cifar"))
    await database.execute("DELETE FROM predictions WHERE filename LIKE 'history-%'")
    await database.close()
    json.dumps(asdict(measured))
    assert {status for read in measured.reads.values() for status in read.statuses} == {"200"}
    assert measured.export_rows_per_second > 0


@pytest.mark.litserve
def test_litserve_is_measured_and_a_paused_litserve_ends_with_the_benchmark() -> None:
    with run_litserve() as litserve:
        measured = asyncio.run(measure(litserve, Case("32x32", 1, 4), 0.5))
        litserve.pause()
        processes = list(cpu.tree(psutil.Process(litserve.roots["LitServe"][0])))
    assert measured.images > 0 and measured.cpu_ms["LitServe"] > 0
    assert len(processes) > 1
    stack.wait_until(lambda: asyncio.run(ended(*processes)), 10, "LitServe to end")


@pytest.mark.litserve
@pytest.mark.parametrize("paused", [False, True])
def test_litserve_ends_if_the_benchmark_is_killed(*, paused: bool) -> None:
    program = f"""
from tests.load import cpu, systems
with systems.run_litserve() as litserve:
    if {paused}:
        litserve.pause()
    print(litserve.roots["LitServe"][0], flush=True)
    input()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as run:
        assert run.stdout is not None
        processes = list(cpu.tree(psutil.Process(int(run.stdout.readline()))))
        run.kill()
    stack.wait_until(lambda: asyncio.run(ended(*processes)), 10, "LitServe to end")
