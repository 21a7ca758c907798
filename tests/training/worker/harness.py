"""A training worker whose child is fake_train.py, and a stand-in for the backend and an inference worker."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import psutil

from scripts.local.config import REPOSITORY, Config
from tests.conftest import ended, eventually
from tests.training.worker.fake_train import VERSION

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Worker:
    """A worker process and its folders."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.models, self.data_sets, self.cache = (folder / name for name in ("models", "sets", "cache"))
        self.alive_file, self.log_file = folder / "alive", folder / "worker.log"
        self.environment = os.environ | {
            "DATABASE_URL": config.database_url("training"),
            "BROKER_URL": config.broker_url("training"),
            "MODELS_PATH": str(self.models),
            "DATA_SETS": str(self.data_sets),
            "CACHE_PATH": str(self.cache),
            "ALIVE_FILE": str(self.alive_file),
        }

    def start(self) -> subprocess.Popen[bytes]:
        program = str(Path(sys.executable).parent / "celery")
        app = ["-A", "tests.training.worker.worker_with_fake_child", "worker"]
        flags = ["--loglevel", "WARNING", "-n", "training@test", "--without-gossip", "--without-mingle"]
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [program, *app, *flags], cwd=REPOSITORY, env=self.environment, stdout=log, stderr=log
            )

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[bytes]]:
        process = self.start()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()

    @property
    def children(self) -> list[dict[str, Any]]:
        """One entry for each child process, written by the child."""
        file = self.cache / "attempts"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log's JSON lines. Celery itself writes "worker: Warm shutdown" when it is stopped."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line and not line.startswith("worker: ")]

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.models / ".runs").glob("*"))

    async def has_no_checkpoint(self) -> bool:
        return self.checkpoints() == []


class OtherServices:
    """Does what the backend and an inference worker would do."""

    def __init__(self, database: asyncpg.Connection, channel: aio_pika.abc.AbstractChannel) -> None:
        self.database = database
        self.channel = channel

    async def add(self, recipe: str, **columns: Any) -> UUID:
        id = uuid4()
        row = {"id": id, "recipe": recipe, "seed": 7, "activation": "better", **columns}
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await self.database.execute(
            f"""INSERT INTO trainings ({", ".join(row)}, "timestamp") VALUES ({places}, now())""",
            *row.values(),
        )
        return id

    async def publish(self, id: object) -> None:
        headers = {"task": "training.train", "id": str(id), "root_id": str(id), "lang": "py", "retries": 0}
        headers |= {"request_id": "request-1"}
        body = json.dumps([[str(id)], {}, EMBED]).encode()
        await self.publish_raw(body, headers, "application/json")

    async def publish_raw(self, body: bytes, headers: dict[str, Any], content_type: str | None) -> None:
        exchange = await self.channel.get_exchange("training", ensure=False)
        message = aio_pika.Message(
            body, headers=headers, content_type=content_type, content_encoding="utf-8", delivery_mode=2
        )
        await exchange.publish(message, "training", timeout=30)

    async def start(self, recipe: str, **columns: Any) -> UUID:
        id = await self.add(recipe, **columns)
        await self.publish(id)
        return id

    async def row(self, id: UUID) -> asyncpg.Record:
        row = await self.database.fetchrow("SELECT * FROM trainings WHERE id = $1", id)
        assert row is not None
        return row

    async def until(self, id: UUID, *statuses: str, seconds: float = 40) -> asyncpg.Record:
        async def reached() -> asyncpg.Record | None:
            row = await self.row(id)
            return row if row["status"] in statuses else None

        return await eventually(reached, seconds)

    async def until_epoch(self, id: UUID, number: int) -> None:
        async def measured() -> Any:
            return number in await self.epochs(id)

        await eventually(measured, 40)

    async def epochs(self, id: UUID) -> list[int]:
        query = 'SELECT number FROM epochs WHERE training = $1 ORDER BY "timestamp"'
        return [row["number"] for row in await self.database.fetch(query, id)]

    async def add_model(self, version: str = VERSION, error: str | None = None) -> None:
        """Write the row of a model that an inference worker serves or, with an error, has refused."""
        await self.database.execute(
            """INSERT INTO models (version, card, error, activated_at, served_at)
               VALUES ($1, '{}', $2, clock_timestamp(), clock_timestamp())""",
            version,
            error,
        )

    async def count(self, queue: str) -> int:
        found = await self.channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0


async def wait_until_gone(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        await eventually(lambda: ended(process), 10)
