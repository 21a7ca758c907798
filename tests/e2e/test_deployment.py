"""Behind another proxy: trusted headers, the public address, the examples of docs/deployment.md."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import Generator
from functools import partial
from pathlib import Path

import httpx
import pytest
from httpx_sse import aconnect_sse

from scripts.local import files, programs, stack
from scripts.local.config import REPOSITORY, Config, SetupError, find_free_ports, port_is_free
from tests.conftest import eventually, run_proxy
from tests.e2e.test_proxy import Backend, assert_is_problem, find_in_log, run_backend, send

FORWARDED = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cifar.example",
}


async def upload(config: Config, host: str, **headers: str) -> httpx.Response:
    lines = {"Host": host, "Content-Length": "1", "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return await send(config, f"POST /api/predict HTTP/1.1\r\n{head}\r\nx".encode())


async def try_upload(
    folder: Path, host: str, headers: dict[str, str], **settings: str
) -> tuple[int, Backend]:
    """Send an upload's head through a proxy with these settings; returns status and stand-in backend."""
    async with run_backend(answers=True) as backend:
        with run_proxy(folder, BACKEND_SERVERS=f"server 127.0.0.1:{backend.port};", **settings) as config:
            answer = await upload(config, host, **headers)
    return answer.status_code, backend


# Trusted headers.


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.9.9.9, 127.0.0.0/8", "::1 127.0.0.1/32"])
async def test_a_trusted_proxy_s_headers_set_the_client_and_the_host(tmp_path: Path, trusted: str) -> None:
    headers = {"Origin": "https://cifar.example", **FORWARDED}
    status, backend = await try_upload(tmp_path, "localhost:8080", headers, TRUSTED_PROXIES=trusted)
    assert status == 202
    (head,) = backend.heads
    assert "\r\nHost: cifar.example\r\n" in head
    assert "\r\nX-Forwarded-Proto: https\r\n" in head
    assert "\r\nX-Forwarded-Host: cifar.example\r\n" in head
    assert "\r\nX-Forwarded-For: 198.51.100.7\r\n" in head


@pytest.mark.parametrize("trusted", ["", "10.9.9.9", "198.51.100.7, 127.0.0.2"])
async def test_forwarded_headers_of_untrusted_clients_are_ignored(tmp_path: Path, trusted: str) -> None:
    changes = {"TRUSTED_PROXIES": trusted}
    async with run_backend(answers=True) as backend:
        with run_proxy(tmp_path, BACKEND_SERVERS=f"server 127.0.0.1:{backend.port};", **changes) as config:
            foreign = await upload(config, "localhost:8080", Origin="https://cifar.example", **FORWARDED)
            others = {"Forwarded": "for=198.51.100.7;host=cifar.example", "X_Real_IP": "198.51.100.7"}
            plain = await upload(config, "localhost:8080", **FORWARDED, **others)
            unknown = await upload(config, "cifar.example", X_Forwarded_Host="localhost")
            (entry,) = await eventually(lambda: find_in_log(config, plain.headers["x-request-id"]))
    assert_is_problem(foreign, 403, "From another site")
    assert_is_problem(unknown, 421, "Unknown host")
    assert plain.status_code == 202
    (head,) = backend.heads
    assert "\r\nHost: localhost:8080\r\n" in head
    assert not re.search("cifar.example|198.51.100.7|https", head)
    assert entry["client"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Forwarded_Host": "evil.example, cifar.example"}, 202),  # the trusted proxy added the last name
        ({"X_Forwarded_Host": "cifar.example, evil.example"}, 403),
        ({"X_Forwarded_Host": "cifar.example:443"}, 202),
        ({"X_Forwarded_Host": "cifar.example https://cifar.example"}, 403),
        ({"X_Forwarded_Host": ""}, 403),
        ({}, 403),
    ],
    ids=str,
)
async def test_the_host_from_a_trusted_proxy_is_compared_with_the_origin(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    headers = {"Origin": "https://cifar.example", **headers}
    assert (await try_upload(tmp_path, "localhost", headers, TRUSTED_PROXIES="127.0.0.1"))[0] == status


async def test_each_client_of_a_trusted_proxy_has_its_own_rate_limit_and_log_lines(tmp_path: Path) -> None:
    async with run_backend(answers=True) as backend:
        servers = f"server 127.0.0.1:{backend.port};"
        settings = {"TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8", "RATE_LIMIT_PER_SECOND": "1"}
        with run_proxy(tmp_path, BACKEND_SERVERS=servers, **settings) as config:
            for client in range(4):
                answer = await upload(config, "localhost", X_Forwarded_For=f"198.51.100.{client}, 10.1.1.1")
                assert answer.status_code == 202
                request_id = answer.headers["x-request-id"]
                (entry,) = await eventually(partial(find_in_log, config, request_id))
                assert entry["client"] == f"198.51.100.{client}"
            made_up = [
                await upload(config, "localhost", X_Forwarded_For=f"203.0.113.{n}, 198.51.100.9")
                for n in range(4)
            ]
    assert [answer.status_code for answer in made_up][-1] == 429


# The public address.


@pytest.mark.parametrize(
    ("public_url", "host", "origin", "status"),
    [
        ("https://cifar.example", "cifar.example", "https://cifar.example", 202),
        ("https://cifar.example", "localhost:8080", "https://cifar.example", 202),
        ("https://cifar.example/", "CIFAR.example:443", "https://cifar.example", 202),
        ("https://cifar.example:8443", "cifar.example", "https://cifar.example:8443", 202),
        ("http://[::1]:81", "[::1]:81", "http://[::1]:81", 202),
        ("https://cifar.example", "cifar.example", "", 202),
        ("https://cifar.example", "localhost", "https://cifar.example:8443", 403),
        ("https://cifar.example", "localhost", "http://cifar.example", 403),
        ("https://cifar.example", "localhost", "https://cifar.exampl", 403),
        ("https://cifar.example", "localhost", "https://cifar.example.evil.example", 403),
        ("https://cifar.example", "localhost", "https://evil.example/https://cifar.example", 403),
        ("https://cifar.example", "evil.example", "https://cifar.example", 421),
        ("https://cifar.example", "cifar.exampl", "", 421),
        ("https://cifar.example", "cifar.example.evil.example", "", 421),
        ("https://cifar.example", "cifar-example", "", 421),
        ("", "cifar.example", "", 421),
    ],
)
async def test_the_public_address_is_served_and_may_upload(
    tmp_path: Path, public_url: str, host: str, origin: str, status: int
) -> None:
    headers = {"Origin": origin} if origin else {}
    assert (await try_upload(tmp_path, host, headers, PUBLIC_URL=public_url))[0] == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("cifar.example:443", "https://cifar.example", 202),
        ("cifar.example", "https://cifar.example:443", 202),
        ("cifar.example:80", "http://cifar.example", 202),
        ("Cifar.Example", "https://cifar.example", 202),
        ("[::1]:443", "https://[::1]", 202),
        ("cifar.example:443", "http://cifar.example", 403),
        ("cifar.example:80", "https://cifar.example", 403),
        ("cifar.example:8443", "https://cifar.example", 403),
        ("cifar.example", "https://cifar.example:8443", 403),
        ("cifar.example", "ftp://cifar.example", 403),
    ],
)
async def test_the_default_port_of_the_scheme_may_be_left_out(
    tmp_path: Path, host: str, origin: str, status: int
) -> None:
    assert (await try_upload(tmp_path, host, {"Origin": origin}, HOST_NAMES=".*"))[0] == status


# Settings.


@pytest.mark.parametrize("proxies", ["", "127.0.0.1", "10.0.0.0/8,::1", " 192.0.2.1 , 2001:db8::/32 "])
def test_docker_and_local_mode_write_the_same_directives(proxies: str) -> None:
    script = '. "$0"; printf "%s\\n" "$REAL_IP_FROM" "$TRUSTED_ADDRESSES"'
    command = ["sh", "-c", script, str(REPOSITORY / "proxy/trusted-proxies.envsh")]
    done = subprocess.run(
        command, env={"TRUSTED_PROXIES": proxies}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == list(files.trust(proxies).values())


@pytest.mark.parametrize("proxies", ["proxy", "10.0.0.0/33", "127.0.0.1; return 200", "*"])
def test_an_invalid_trusted_proxy_is_refused(proxies: str) -> None:
    with pytest.raises(SetupError, match="TRUSTED_PROXIES holds"):
        files.trust(proxies)


@pytest.mark.parametrize("url", ["cifar.example", "https://", "https://a b", 'https://a"b', "https://a/$b"])
def test_an_invalid_public_address_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="PUBLIC_URL is"):
        files.check_public_url(url)


# The documented examples, with TLS, in front of the whole system.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for cifar.example, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    pem, key = folder / "cifar.pem", folder / "cifar.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    name = ["-subj", "/CN=cifar.example", "-addext", "subjectAltName=DNS:cifar.example"]
    subprocess.run([*command, *name, "-keyout", key, "-out", pem], check=True, capture_output=True)
    return pem, key


def read_example(language: str) -> str:
    (example,) = re.findall(
        rf"```{language}\n(.*?)```", (REPOSITORY / "docs/deployment.md").read_text(), re.DOTALL
    )
    return example


def replace(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def start_nginx(folder: Path, port: int, behind: str, certificate: tuple[Path, Path]) -> list[str]:
    pem, key = map(str, certificate)
    changes = {"listen 443": f"listen 127.0.0.1:{port}", "127.0.0.1:8080": behind}
    changes |= {"/etc/ssl/cifar.example.pem": pem, "/etc/ssl/cifar.example.key": key}
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off;\n{paths}{replace(read_example('nginx'), changes)}}}"
    )
    return [programs.find_nginx(), "-c", str(folder / "nginx.conf")]


def start_caddy(folder: Path, port: int, behind: str, certificate: tuple[Path, Path]) -> list[str]:
    pem, key = map(str, certificate)
    site = f"https://cifar.example:{port} {{\n    tls {pem} {key}\n"
    changes = {"cifar.example {\n": site, "127.0.0.1:8080": behind}
    options = "{\n    admin off\n    auto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + replace(read_example("caddyfile"), changes))
    return ["env", f"HOME={folder}", "caddy", "run", "--config", str(folder / "Caddyfile")]


@pytest.fixture(scope="module", params=[start_nginx, start_caddy], ids=["nginx", "caddy"])
def public(
    request: pytest.FixtureRequest,
    system: Config,
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[tuple[str, Config]]:
    """The address of a documented proxy, and the proxy of ours between it and the system."""
    (port,) = find_free_ports(1)
    folder, address = tmp_path_factory.mktemp("public"), f"https://cifar.example:{port}"
    settings = {
        "TRUSTED_PROXIES": "127.0.0.1,::1",
        "PUBLIC_URL": address,
        "BACKEND_SERVERS": f"server 127.0.0.1:{system.ports['backend']};",
        "RABBITMQ_ADDRESS": f"127.0.0.1:{system.ports['rabbitmq_ui']}",
    }
    with run_proxy(tmp_path_factory.mktemp("behind"), **settings) as behind:
        command = request.param(folder, port, f"127.0.0.1:{behind.http_port}", certificate)
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as process,
        ):
            try:
                stack.wait_until(lambda: not port_is_free(port), 10, "the proxy in front")
                yield address, behind
            finally:
                process.terminate()


class ToThisMachine(httpx.AsyncHTTPTransport):
    """Sends requests for cifar.example to this machine, with the public name in TLS and Host."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host="127.0.0.1")
        return await super().handle_async_request(request)


def visit(address: str, certificate: tuple[Path, Path]) -> httpx.AsyncClient:
    """A client that trusts the certificate and sends the page's origin, as a browser does."""
    transport = ToThisMachine(verify=ssl.create_default_context(cafile=certificate[0]))
    headers = {"Origin": address}
    return httpx.AsyncClient(base_url=address, transport=transport, headers=headers, timeout=30)


async def test_a_documented_proxy_passes_uploads_of_any_size(
    public: tuple[str, Config], certificate: tuple[Path, Path], cat: bytes
) -> None:
    address, behind = public
    async with visit(address, certificate) as client:
        small = await client.post("/api/predict", files={"file": cat}, headers={"Prefer": "wait=20"})
        assert (small.status_code, small.json()["prediction"]) == (200, "cat")
        large = await client.post(
            "/api/predict", files=[("file", bytes(9_400_000))] * 7
        )  # just under the limit
        assert_is_problem(large, 422, "No file could be accepted")
        (entry,) = await eventually(lambda: find_in_log(behind, small.headers["x-request-id"]))
        assert entry["client"] == "127.0.0.1"


async def test_a_documented_proxy_passes_events_on_without_delay(
    public: tuple[str, Config], certificate: tuple[Path, Path], cat: bytes
) -> None:
    async with asyncio.timeout(20), visit(public[0], certificate) as client:
        place = (await client.post("/api/predict", files={"file": cat})).json()["urls"]["events"]
        async with aconnect_sse(client, "GET", place) as stream:
            statuses = [event.json()["status"] async for event in stream.aiter_sse()]
        assert statuses[-1] == "succeeded"
        async with aconnect_sse(client, "GET", "/api/events") as stream:
            id = (await client.post("/api/predict", files={"file": cat})).json()["id"]
            async for event in stream.aiter_sse():
                if event.json()["id"] == id:
                    break


async def test_a_documented_proxy_serves_no_other_address(
    public: tuple[str, Config], certificate: tuple[Path, Path]
) -> None:
    address, _ = public
    async with visit(address, certificate) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.head("/api/models/")).status_code == 200
        assert (await client.get("/rabbitmq")).headers["location"] in ("/rabbitmq/", f"{address}/rabbitmq/")
        foreign = await client.post("/api/predict", headers={"Origin": "https://evil.example"})
        assert_is_problem(foreign, 403, "From another site")
        other = await client.get("/api/models", headers={"Host": "evil.example"})
        assert not other.text.startswith("{") and "results" not in other.text
