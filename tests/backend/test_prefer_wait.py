"""Uploads that wait for their outcome, with `Prefer: wait`."""

import asyncio
from typing import Any

import asyncpg
import pytest

from backend.routes.predict import parse_wait
from tests.backend.conftest import Api, Finish
from tests.conftest import eventually


async def test_waiting_returns_the_finished_prediction(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    upload = asyncio.create_task(api.upload(cat, Prefer="wait=10"))

    async def stored() -> Any:
        return await database.fetchval("SELECT id FROM predictions")

    await finish(str(await eventually(stored)))
    answer = await upload
    assert answer.status_code == 200
    prediction = answer.json()
    assert (prediction["prediction"], prediction["confidence"]) == ("cat", 0.75)
    assert [row["label"] for row in prediction["probabilities"]] == ["cat", "dog"]
    assert prediction["metrics"]["batch_size"] == 1


async def test_a_wait_that_times_out_returns_the_queued_prediction(api: Api, cat: bytes) -> None:
    answer = await api.upload(cat, Prefer="wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ([], 0),
        (["wait=1"], 1),
        (["respond-async, wait = 10"], 10),
        (['wait="7"'], 7),
        (["wait=61"], 60),
        (["wait=999999"], 60),
        (["wait=0"], 0),
        (["wait=-1"], 0),
        (["wait=soon"], 0),
        (["await=5"], 0),
        (["wait=12345678"], 60),
        (["WAIT=20"], 20),
        (["respond-async", "Wait=20"], 20),
        (["wait=20; strict=yes; more"], 20),
        (["wait=20, wait=30", "wait=40"], 20),
        (["wait=soon, wait=30"], 0),  # only the first counts, and it is invalid
        (['note="a, wait=5", wait=20'], 20),
        ([r'note="a \", wait=5", wait=20'], 20),
        (["handling=strict; wait=5"], 0),  # a parameter of another preference
        (["wait"], 0),
        (["wait=1.5"], 0),
        (["wait=²"], 0),
        (['wait="20'], 0),
        ([",, ;=, wait=20"], 20),
        (["wait=" + "9" * 8000], 0),  # more digits than `parse_wait` accepts
    ],
)
def test_the_wait_is_at_most_a_minute_and_an_invalid_one_is_ignored(
    prefer: list[str], seconds: float
) -> None:
    assert parse_wait(*prefer) == seconds


async def test_several_prefer_lines_are_joined_and_the_answer_names_the_applied_wait(
    api: Api, cat: bytes
) -> None:
    headers = [("Prefer", "respond-async"), ("prefer", 'Wait="1"')]
    answer = await api.client.post("/api/predict", files={"file": cat}, headers=headers)
    assert answer.headers["preference-applied"] == "wait=1"
    ignored = await api.client.post("/api/predict", files={"file": cat}, headers={"Prefer": "wait=soon"})
    assert "preference-applied" not in ignored.headers
