"""Uploads that are repeated with an `Idempotency-Key`."""

import asyncio
from typing import Any

import asyncpg

from tests.backend.conftest import Api, Finish, assert_problem
from tests.conftest import SAMPLES, eventually

KEY = {"Idempotency-Key": "c0ffee-1"}


async def test_an_upload_that_is_repeated_with_its_key_stores_nothing_again(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    first, *again = await asyncio.gather(*(api.upload(cat, b"no image", cat, **KEY) for _ in range(6)))
    assert first.status_code == 202
    assert all(answer.json() == first.json() for answer in again)
    assert await database.fetchval("SELECT count(*) FROM predictions") == 2
    for prediction in first.json()["predictions"][::2]:
        await finish(prediction["id"])
    later = await api.upload(cat, b"no image", cat, **KEY, Prefer="wait=10")
    assert later.status_code == 200
    assert [entry.get("status") for entry in later.json()["predictions"]] == ["succeeded", None, "succeeded"]


async def test_waiting_with_a_key_returns_the_finished_prediction(
    api: Api, cat: bytes, finish: Finish, database: asyncpg.Connection
) -> None:
    upload = asyncio.create_task(api.upload(cat, **KEY, Prefer="wait=10"))

    async def stored() -> Any:
        return await database.fetchval("SELECT id FROM predictions")

    await finish(str(await eventually(stored)))
    answer = await upload
    assert (answer.status_code, answer.json()["prediction"]) == (200, "cat")


async def test_a_key_belongs_to_its_images_and_is_free_after_their_removal(api: Api, cat: bytes) -> None:
    dog = (SAMPLES / "dog.jpg").read_bytes()
    prediction = (await api.upload(cat, **KEY)).json()
    for others in ([dog], [dog, cat], [cat, dog], [cat, cat]):
        assert_problem(await api.upload(*others, **KEY), 422, "Idempotency key", "new one")
    assert [row["id"] for row in (await api.client.get("/api/predictions")).json()["results"]] == [
        prediction["id"]
    ]  # refused uploads store nothing
    assert (await api.upload(dog, **{"Idempotency-Key": "another"})).json()["id"] != prediction["id"]
    assert (await api.client.delete(prediction["urls"]["self"])).status_code == 204
    assert (await api.upload(dog, **KEY)).status_code == 202
    # A key has at most 255 characters.
    assert_problem(await api.upload(dog, **{"Idempotency-Key": "x" * 256}), 422, "Idempotency-Key")
