"""Request ids, and the access log of the proxy."""

import re

import httpx
import pytest

from scripts.local.config import Config
from tests.conftest import eventually
from tests.e2e.proxy import assert_is_problem, find_in_log


@pytest.mark.parametrize("path", ["/", "/no-such-page", "/api/health/live", "/api/no-such", "/rabbitmq/"])
async def test_a_harmless_request_id_is_kept(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"X-Request-ID": "my-id_1.2"})
    assert answer.headers.get_list("x-request-id") == ["my-id_1.2"]


@pytest.mark.parametrize("given", ["", "two words", '"quoted"', "a" * 65])
async def test_the_proxy_replaces_an_invalid_request_id(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/api/no-such", headers={"X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert_is_problem(answer, 404, "Not Found")


async def test_the_access_log_shows_the_prediction_of_an_upload_but_no_query(
    client: httpx.AsyncClient, system: Config, cat: bytes
) -> None:
    answer = await client.post("/api/predict?secret=1", files={"file": cat})
    (entry,) = await eventually(lambda: find_in_log(system, answer.json()["id"]))
    assert entry["location"] == answer.headers["location"]
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert (entry["method"], entry["uri"], entry["status"]) == ("POST", "/api/predict", 202)
