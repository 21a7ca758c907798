"""Streams resume after a dump is restored into a new PostgreSQL cluster, as in docs/runbook.md."""

import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import asyncpg
import pytest
from httpx_sse import aconnect_sse

from backend.settings import Settings
from scripts.local import programs
from scripts.local.config import Config
from tests.backend.conftest import Api, Reader, Serve, serve_connected
from tests.backend.test_event_limits import ids
from tests.backend.test_trainings import CLAIM, EPOCH, SUCCEED, start
from tests.conftest import read_events, run_stack

CANCEL = "UPDATE predictions SET status = 'canceled', completed_at = now() WHERE id = $1"


@pytest.fixture
def new_cluster(tmp_path: Path) -> Generator[Config]:
    """A new PostgreSQL cluster with the schema and its roles."""
    yield from run_stack(tmp_path, ("postgres",))


def restore(old: Config, new: Config) -> None:
    def run(name: str, config: Config, *arguments: str, text: str | None = None) -> str:
        address = ["-h", "127.0.0.1", "-p", str(config.ports["postgres"]), "-U", "cifar"]
        environment = os.environ | {"PGPASSWORD": config.secrets["postgres"]}
        command = [programs.find_program(name), *address, *arguments]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    dump = run("pg_dump", old, "--create", "--clean", "--if-exists", "cifar")
    run("psql", new, "-X", "-q", "-v", "ON_ERROR_STOP=1", "postgres", text=dump)


async def run_many_transactions(old: asyncpg.Connection) -> None:
    """Give the old cluster more transactions than the new one: no stream may depend on their number."""
    for _ in range(2000):
        await old.execute("SELECT pg_current_xact_id()")


async def serve_restored(serve: Serve, new_cluster: Config, settings: Settings) -> Api:
    changed = {"database_url": new_cluster.database_url("backend")}
    return await serve_connected(serve, Settings.model_validate(settings.model_dump() | changed))


async def collect(api: Api, last_event_id: str, last: str) -> list[tuple[str, str]]:
    """The name and the prediction's id of each event, up to the event of the prediction `last`."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    received: list[tuple[str, str]] = []
    async with aconnect_sse(api.client, "GET", "/api/events", headers=headers) as stream:
        async for event in read_events(stream):
            received.append((event.event, json.loads(event.data).get("id", "")))
            if received[-1][1] == last:
                break
    return received


async def test_streams_of_predictions_resume_after_a_restore(
    api: Api,
    cat: bytes,
    serve: Serve,
    settings: Settings,
    servers: Config,
    new_cluster: Config,
    database: asyncpg.Connection,
) -> None:
    await run_many_transactions(database)
    ended, waits, missed = [(await api.upload(cat)).json()["id"] for _ in range(3)]
    await database.execute(CANCEL, ended)
    reader = Reader(api, "/api/events")
    await reader.until(2)
    seen = reader.events[-1].id
    await database.execute(CANCEL, missed)
    restore(servers, new_cluster)
    await reader.until(3)
    # Not in the dump: an event whose number (a time in µs) is one minute in the future, and an upload.
    await database.execute("INSERT INTO events SELECT max(number) + 60000000, $1 FROM events", ended)
    later = (await api.upload(cat)).json()["id"]
    await reader.until(5)
    from_the_future = reader.events[-1].id
    reader.done.cancel()
    # The next tests need a table without events from the future.
    await database.execute("DELETE FROM events WHERE number > extract(epoch FROM clock_timestamp()) * 1e6")

    restored = await serve_restored(serve, new_cluster, settings)
    fresh = Reader(restored, "/api/events")
    await fresh.until(1)
    new = (await restored.upload(cat)).json()["id"]
    await fresh.until(2)
    assert ids(fresh.events) == [waits, new]  # each event once
    assert await collect(restored, seen, new) == [("prediction", missed), ("prediction", new)]
    received = await collect(restored, from_the_future, new)
    assert received == [("reload", ""), ("prediction", waits), ("prediction", new)]

    connection = await asyncpg.connect(new_cluster.database_url("cifar"))
    url = f"/api/predictions/{waits}/events"
    one = Reader(restored, url)
    await one.until(1)
    await connection.execute(CANCEL, waits)
    await one.done
    assert [json.loads(event.data)["status"] for event in one.events] == ["queued", "canceled"]
    headers = {"Last-Event-ID": one.events[-1].id}
    assert (await restored.client.get(url, headers=headers)).status_code == 204
    await fresh.until(3)
    assert ids(fresh.events) == [waits, new, waits]
    assert later not in ids(fresh.events)
    fresh.done.cancel()
    await connection.close()


async def test_streams_of_trainings_resume_after_a_restore(
    api: Api,
    serve: Serve,
    settings: Settings,
    servers: Config,
    new_cluster: Config,
    database: asyncpg.Connection,
) -> None:
    await run_many_transactions(database)
    training = await start(api)
    id, url = training["id"], training["urls"]["events"]
    await database.execute(CLAIM, id)
    for number in (1, 2):
        await database.execute(EPOCH, id, number)
    _, first, _ = await api.follow(url, 3)
    restore(servers, new_cluster)

    restored = await serve_restored(serve, new_cluster, settings)
    connection = await asyncpg.connect(new_cluster.database_url("cifar"))
    reader = Reader(restored, url)
    await reader.until(3)
    resumed = await restored.follow(url, 2, **{"Last-Event-ID": first.id})
    assert [event.event for event in resumed] == ["training", "epoch"]
    assert json.loads(resumed[1].data)["number"] == 2
    await connection.execute(EPOCH, id, 3)
    await reader.until(4)
    await connection.execute(SUCCEED, id)
    await reader.done
    names = [event.event for event in reader.events]
    assert names == ["training", "epoch", "epoch", "epoch", "training"]
    headers = {"Last-Event-ID": reader.events[-1].id}
    assert (await restored.client.get(url, headers=headers)).status_code == 204
    await connection.close()
