"""`make bench --rows N`: adds N rows to the history, then times reads of it and, meanwhile, predictions."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import asyncpg
import httpx
from tqdm import tqdm

from scripts.local.config import Config, SetupError
from tests.load import clients
from tests.load.measure import build_uploads, percentile
from tests.load.systems import System

# Insert copies of up to ten succeeded predictions, one copy for each number from $1 to $2. Each copy has its
# own id, name and time. The times are a second apart, from 2020 on. An id is a UUID of version 7: it begins
# with the time in milliseconds.
COPY = """
WITH origins AS MATERIALIZED (
    SELECT row_number() OVER () - 1 AS place, p FROM predictions AS p WHERE status = 'succeeded' LIMIT 10)
INSERT INTO predictions SELECT copy.*
FROM generate_series($1::bigint, $2::bigint) AS number
JOIN origins ON place = number % (SELECT count(*) FROM origins)
CROSS JOIN LATERAL (SELECT timestamptz '2020-01-01 UTC' + number * interval '1 second' AS moment) AS at
CROSS JOIN LATERAL (SELECT lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') AS start,
                           md5(number::text) AS bits) AS parts
CROSS JOIN LATERAL jsonb_populate_record(p, jsonb_build_object(
    'id', start || '7' || left(bits, 3) || '8' || substr(bits, 4, 15), 'upload_key', null,
    'filename', 'history-' || number || '.jpg',
    'timestamp', moment, 'started_at', moment, 'completed_at', moment)) AS copy"""
ROWS_AT_ONCE = 20_000
READS = {
    "page": {"limit": "50"},
    "search": {"limit": "50", "q": "history-1234."},
    "search without a hit": {"limit": "50", "q": "not-there"},
    "label": {"limit": "50", "label": "cat"},
}
# An INSERT of over 1,000 rows makes one event. Within 5 s the backend reads it and ends all waits for
# outcomes.
SETTLE_SECONDS = 6
READ_SECONDS = 3
EXPORT_SECONDS = 10
PREDICTIONS_PER_SECOND, CLIENTS = 20, 8


@dataclass(frozen=True)
class Read:
    """One kind of read, repeated by one reader, and the predictions meanwhile."""

    statuses: Mapping[str, int]
    """How many answers had each HTTP status."""
    p50_ms: float
    slowest_ms: float
    prediction_p50_ms: float
    prediction_p95_ms: float


@dataclass(frozen=True)
class HistoryFigures:
    """The reads, and predictions meanwhile, after `rows` rows were added."""

    rows: int
    alone_p50_ms: float
    """Latency of a prediction without reads of the history."""
    reads: Mapping[str, Read]
    export_rows_per_second: float
    export_prediction_p50_ms: float
    export_prediction_p95_ms: float


async def measure_history(system: System, config: Config, rows: int) -> HistoryFigures:
    """Fill the history, then read it in each way while predictions go on."""
    await fill(config, rows)
    async with httpx.AsyncClient(base_url=config.address, timeout=120) as http:
        async with predicting(system) as alone:
            await asyncio.sleep(READ_SECONDS)
        reads = {name: await measure_read(system, http, query) for name, query in READS.items()}
        async with predicting(system) as meanwhile:
            export = await measure_export(http)
    return HistoryFigures(
        rows, percentile(alone, 50), reads, export, percentile(meanwhile, 50), percentile(meanwhile, 95)
    )


async def fill(config: Config, rows: int) -> None:
    """Copy predictions until there are `rows` more. Raises SetupError if there is none to copy."""
    database = await asyncpg.connect(config.database_url("cifar"))
    with tqdm(total=rows, desc="filling the history", unit="row") as progress:
        for first in range(0, rows, ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, rows) - 1
            if await database.execute(COPY, first, last) == "INSERT 0 0":
                raise SetupError("there is no succeeded prediction to copy")
            progress.update(last + 1 - first)
    await database.execute("VACUUM (ANALYZE) predictions")
    await database.close()
    await asyncio.sleep(SETTLE_SECONDS)


async def measure_read(system: System, http: httpx.AsyncClient, query: Mapping[str, str]) -> Read:
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    end = time.perf_counter() + READ_SECONDS
    async with predicting(system) as meanwhile:
        while (started := time.perf_counter()) < end:
            answer = await http.get("/api/predictions", params=query)
            latencies.append((time.perf_counter() - started) * 1000)
            statuses[str(answer.status_code)] += 1
    latencies.sort()
    return Read(
        dict(statuses),
        percentile(latencies, 50),
        latencies[-1],
        percentile(meanwhile, 50),
        percentile(meanwhile, 95),
    )


async def measure_export(http: httpx.AsyncClient) -> float:
    """How many rows of the CSV arrive in a second, measured for at most EXPORT_SECONDS."""
    rows, started = 0, time.perf_counter()
    request = http.stream(
        "GET", "/api/predictions", params={"format": "csv"}, headers={"Accept-Encoding": "identity"}
    )
    async with request as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            rows += chunk.count(b"\n")
            if time.perf_counter() > started + EXPORT_SECONDS:
                break
    return rows / (time.perf_counter() - started)


@asynccontextmanager
async def predicting(system: System) -> AsyncGenerator[list[float]]:
    """Predictions at a steady rate. After the block the list holds their latencies in ms, sorted."""
    latencies: list[float] = []
    # Clients accept an answer even if its prediction is unfinished.
    uploads = replace(build_uploads(system, "32x32", 1), marker=b'"status":')
    async with clients.running(system.port, uploads, CLIENTS, PREDICTIONS_PER_SECOND) as load:
        yield latencies
        while not load.answers:  # a busy machine may need longer for the first
            await asyncio.sleep(0.1)
    latencies += sorted(answer.latency_ms for answer in load.answers)
