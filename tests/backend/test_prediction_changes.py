"""Changes of a prediction: it is removed, canceled, or given feedback."""

import threading
from uuid import UUID, uuid4

import asyncpg
import pytest

from inference.predictions import Predictions as WorkerPredictions
from scripts.local.config import Config
from tests.backend.conftest import Api, Finish, assert_problem, insert


async def test_a_prediction_can_be_removed_once(api: Api, cat: bytes) -> None:
    url = (await api.upload(cat)).json()["urls"]["self"]
    answer = await api.client.delete(url)
    assert (answer.status_code, answer.content) == (204, b"")
    for method in ("GET", "DELETE"):
        assert_problem(await api.client.request(method, url), 404, "Unknown prediction")


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_an_unfinished_prediction_can_be_canceled_and_stays_canceled(
    status: str, api: Api, cat: bytes, finish: Finish, servers: Config, database: asyncpg.Connection
) -> None:
    waiting, done = (await api.upload(cat, cat)).json()["predictions"]
    if status == "running":
        await database.execute("UPDATE predictions SET status = 'running', started_at = now(), attempt = 1")
    answer = await api.client.post(f"{waiting['urls']['self']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert answer.json()["completed_at"]
    again = await api.client.post(f"{waiting['urls']['self']}/cancel")
    assert (again.status_code, again.json()) == (200, answer.json())
    await finish(done["id"])
    assert_problem(await api.client.post(f"{done['urls']['self']}/cancel"), 409, "already succeeded")
    worker = WorkerPredictions(servers.database_url("worker"), threading.Event())
    assert worker.take([UUID(waiting["id"])]) == []
    worker.close()


async def test_feedback_is_stored_and_can_be_removed(api: Api, database: asyncpg.Connection) -> None:
    url = f"/api/predictions/{await insert(database, 0, 'cat')}"
    for label in ("dog", "a house", None):
        answer = await api.client.put(f"{url}/feedback", json={"label": label})
        assert (answer.status_code, answer.json()["feedback"]) == (200, label)
        assert (await api.client.get(url)).json() == answer.json()
    without_type = await api.client.put(f"{url}/feedback", content='{"label": "dog"}')  # not application/json
    assert without_type.json()["feedback"] == "dog"


@pytest.mark.parametrize(
    "body",
    ["", "{}", "[]", '{"label": 3}', '{"label": ""}', '{"label": "a\\u0000"}', '{"lable": "cat"}', "no"],
)
async def test_invalid_feedback_changes_nothing(body: str, api: Api, database: asyncpg.Connection) -> None:
    url = f"/api/predictions/{await insert(database, 0, 'cat')}"
    assert_problem(await api.client.put(f"{url}/feedback", content=body), 422, "/docs")
    assert_problem(await api.client.put(f"{url}/feedback", content=b" " * 5000), 413, "4,096")
    assert (await api.client.get(url)).json()["feedback"] is None


@pytest.mark.parametrize(("method", "part"), [("DELETE", ""), ("POST", "/cancel"), ("PUT", "/feedback")])
async def test_an_unknown_prediction_cannot_be_changed(method: str, part: str, api: Api) -> None:
    url, body = f"/api/predictions/{uuid4()}{part}", '{"label": "cat"}'
    answer = await api.client.request(method, url, content=body)
    assert_problem(answer, 404, "GET /api/predictions")
