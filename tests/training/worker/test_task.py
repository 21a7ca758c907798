"""Which messages the training worker takes from the broker, and when."""

import os
import signal
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from celery import Celery
from kombu.entity import Queue

from scripts.local import stack
from scripts.local.config import Config
from tests.conftest import eventually
from tests.training.worker.harness import OtherServices, Worker
from training.worker.task import QUEUE, Train


async def test_runs_go_one_at_a_time_and_waiting_messages_stay_in_the_queue(
    worker: Worker, services: OtherServices
) -> None:
    await services.add_model()
    first = await services.start("hang")
    await services.until_epoch(first, 1)
    others = [await services.start("epochs", epochs=1) for _ in range(3)]

    async def waiting() -> bool:
        return await services.count("training") == 3

    await eventually(waiting)
    assert [(await services.row(id))["status"] for id in others] == ["queued"] * 3
    await services.database.execute(
        "UPDATE trainings SET status = 'canceled', completed_at = now() WHERE id = $1", first
    )
    rows = [await services.until(id, "succeeded") for id in others]
    spans = sorted((row["started_at"], row["completed_at"]) for row in rows)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


class WithoutConnection:
    """Celery's consumer just after its connection was lost. It forgets the queue, and then raises."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def cancel_task_queue(self, queue: str) -> None:
        self.app.amqp.queues.deselect(queue)
        raise ConnectionResetError


def test_the_queue_stays_selected_if_the_connection_breaks_while_a_message_is_taken() -> None:
    app = Celery(set_as_current=False)
    app.conf.task_queues = [Queue(QUEUE)]
    task = Train(SimpleNamespace())  # pyright: ignore[reportArgumentType]
    task.connect(WithoutConnection(app))
    with pytest.raises(ConnectionResetError):
        task.take(SimpleNamespace())  # pyright: ignore[reportArgumentType]
    assert QUEUE in app.amqp.queues.consume_from


@pytest.mark.parametrize("run_ends", ["meanwhile", "later"])
async def test_a_run_survives_a_broker_crash_and_the_next_message_is_taken_after_the_run(
    run_ends: str, worker: Worker, services: OtherServices, servers: Config
) -> None:
    await services.add_model()
    first = await services.start("hang")
    await services.until_epoch(first, 1)
    (rabbitmq,) = [process for process in stack.processes(servers) if process["name"] == "rabbitmq"]
    os.kill(rabbitmq["pid"], signal.SIGKILL)  # supervisord starts another
    cancel = "UPDATE trainings SET status = 'canceled', completed_at = now() WHERE id = $1"
    if run_ends == "meanwhile":
        await services.database.execute(cancel, first)
    killed = time.time()

    async def connected() -> Any:
        try:
            # The worker touches this file at each heartbeat. It sends heartbeats only while it is connected.
            return worker.alive_file.stat().st_mtime > killed + 3 and await aio_pika.connect(
                servers.broker_url("backend")
            )
        except aio_pika.exceptions.AMQPError:
            return None

    broker = await eventually(connected, 60)
    async with broker:
        again = OtherServices(services.database, await broker.channel())
        second = await again.start("epochs", epochs=1)
        if run_ends == "later":

            async def waits_in_queue() -> bool:
                return await again.count("training") == 1

            await eventually(waits_in_queue)
            assert (await services.row(first))["status"] == "running"
            await services.database.execute(cancel, first)
        await again.until(second, "succeeded", seconds=30)


@pytest.mark.parametrize(
    ("headers", "body", "content_type"),
    [
        ({"task": "training.train"}, b'[["x"], {}, {}]', "application/json"),
        ({"task": "training.train", "id": "a"}, b"{not json", "application/json"),
        ({"task": "training.train", "id": "a"}, b"[1, 2]", "application/json"),
        ({"task": "training.train", "id": "a"}, b"hello", None),
        ({"task": "training.train", "id": "a"}, b"\x80\x04N.", "application/x-python-serialize"),
        ({"task": "no.such.task", "id": "a"}, b"[[], {}, {}]", "application/json"),
        ({}, b"hello", "text/plain"),
    ],
    ids=["no id", "broken json", "two items", "no type", "pickle", "unknown task", "no headers"],
)
async def test_a_malformed_message_is_dead_lettered_and_the_worker_goes_on(
    headers: dict[str, Any],
    body: bytes,
    content_type: str | None,
    worker: Worker,
    services: OtherServices,
) -> None:
    await services.add_model()
    count = await services.count("training.dead")
    await services.publish_raw(body, headers, content_type)

    async def dead_lettered() -> bool:
        return await services.count("training.dead") == count + 1

    await eventually(dead_lettered)
    await services.until(await services.start("epochs", epochs=1), "succeeded")


async def test_the_worker_goes_on_after_a_message_for_no_training(
    worker: Worker, services: OtherServices
) -> None:
    await services.add_model()
    await services.publish("not-an-id")
    await services.publish(uuid4())
    await services.until(await services.start("epochs", epochs=1), "succeeded")
