"""How the proxy answers unusual requests: malformed ones, other methods, extra slashes."""

import httpx
import pytest

from scripts.local.config import Config
from tests.conftest import eventually
from tests.e2e.proxy import assert_is_problem, build_get, find_in_log, send

LONG = b"a" * 40_000


async def test_the_404_page_is_small_and_plain(client: httpx.AsyncClient) -> None:
    answer = await client.get("/no-such-page")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/plain")
    assert answer.text == "404 Not found\nThis address does not exist. Start at / or at /docs.\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "title"),
    [
        (b"GET /api/health HTTP/1.1\r\nno header\r\n\r\n", 400, "Bad request"),
        (b"GARBAGE\r\n\r\n", 400, "Bad request"),
        (b"GET / HTTP/7.0\r\n\r\n", 400, "Bad request"),
        (
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: y\r\n\r\n",
            400,
            "Bad request",
        ),
        (b"TRACE /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "Method not allowed"),
        (build_get("/api/models").replace(b"GET", b"FOO"), 405, "Method not allowed"),
        (build_get("/api/predict").replace(b"GET", b"M-SEARCH"), 405, "Method not allowed"),
        (build_get("/api/predictions?q=ä"), 400, "Bad request"),
        (build_get("/api/models/ä").replace("ä".encode(), b"\xff"), 400, "Bad request"),
        (build_get("/api/predictions?q=a b"), 400, "Bad request"),
        (build_get("/api/predictions/%zz"), 400, "Bad request"),
        (b"GET /api/health?" + LONG + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "Address too long"),
        (
            b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX: " + LONG + b"\r\n\r\n",
            431,
            "Headers too large",
        ),
        (
            build_get("/api/health").replace(b"\r\n\r\n", b"\r\nX: 1" * 1000 + b"\r\n\r\n"),
            431,
            "Headers too large",
        ),
    ],
)
async def test_a_request_refused_by_the_proxy_gets_a_problem(
    system: Config, request_bytes: bytes, status: int, title: str
) -> None:
    assert_is_problem(await send(system, request_bytes), status, title)


async def test_the_access_log_stays_valid_if_a_client_sends_bytes_beyond_ascii(system: Config) -> None:
    request_bytes = build_get("/api/models/ä").replace("ä".encode(), b"\xff")
    request_bytes = request_bytes.replace(b"\r\n\r\n", b"\r\nUser-Agent: a\xffb\r\n\r\n")
    answer = await send(system, request_bytes)
    (entry,) = await eventually(lambda: find_in_log(system, answer.headers["x-request-id"]))
    assert (entry["uri"], entry["user_agent"], entry["status"]) == ("/api/models/", "a", 400)


async def test_an_address_that_is_not_encoded_gets_advice(system: Config) -> None:
    answer = await send(system, build_get("/api/predictions?q=Kätzchen"))
    assert "--data-urlencode" in answer.json()["detail"]


@pytest.mark.parametrize(("header", "status"), [("If-Match", 412), ("Range", 416)])
async def test_if_match_or_range_that_cannot_be_satisfied_gets_a_plain_text_answer(
    client: httpx.AsyncClient, header: str, status: int
) -> None:
    answer = await client.get("/icon.svg", headers={header: "bytes=90000-"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain")
    assert answer.text.startswith(f"{status} ")


async def test_large_cookies_are_accepted_and_larger_ones_are_refused_with_advice(
    client: httpx.AsyncClient,
) -> None:
    """A browser also sends the cookies of every other application on `localhost`."""
    taken = await client.get("/api/health/live", headers={"Cookie": "a=" + "b" * 30_000})
    assert taken.status_code == 200
    refused = await client.get("/api/health/live", headers={"Cookie": "a=" + "b" * 40_000})
    assert_is_problem(refused, 431, "Headers too large")
    assert "cookies" in refused.json()["detail"] and "127.0.0.1" in refused.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/", "/icon.svg"])
async def test_a_static_file_accepts_get_and_head_and_its_405_answer_lists_both(
    client: httpx.AsyncClient, path: str
) -> None:
    got, head = await client.get(path), await client.head(path)
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    refused = await client.post(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/api/models", "/api/models/", "/openapi.json", "/openapi.json/", "/api/events"]
)
async def test_the_backend_answers_head_and_options_and_refuses_other_methods(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    refused = await client.delete(path)
    assert_is_problem(refused, 405, "Method Not Allowed")
    assert refused.headers.get_list("allow") == ["GET, HEAD, OPTIONS"]


@pytest.mark.parametrize("method", ["FOO", "PROPFIND", "QUERY"])
async def test_the_answer_to_an_unknown_method_names_the_methods_of_the_api(
    method: str, client: httpx.AsyncClient
) -> None:
    refused = await client.request(method, "/api/models")
    assert_is_problem(refused, 405, "Method not allowed")
    assert refused.headers["allow"] == "GET, HEAD, POST, PUT, DELETE, OPTIONS"


async def test_the_address_api_without_a_slash_is_not_redirected(client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/api"), await client.post("/api")):
        assert_is_problem(answer, 404, "Not Found")


@pytest.mark.parametrize("path", ["/api/predict/", "//api/predict", "/api//predict//"])
async def test_an_upload_address_may_have_extra_slashes(system: Config, cat: bytes, path: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="cat.jpg"\r\n\r\n'
        + cat
        + b"\r\n--x--\r\n"
    )
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    answer = await send(
        system, f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + body
    )
    assert answer.status_code == 202
