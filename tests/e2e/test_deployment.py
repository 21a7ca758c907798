"""The nginx and Caddy examples of docs/deployment.md, with TLS, in front of the whole system."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from httpx_sse import aconnect_sse

from scripts.local import programs, stack
from scripts.local.config import REPOSITORY, Config, find_free_ports, port_is_free
from tests.conftest import eventually, read_events, run_proxy
from tests.e2e.proxy import assert_is_problem, find_in_log


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


def configure_nginx(folder: Path, port: int, behind: str, certificate: tuple[Path, Path]) -> list[str]:
    pem, key = map(str, certificate)
    changes = {"listen 443": f"listen 127.0.0.1:{port}", "127.0.0.1:8080": behind}
    changes |= {"/etc/ssl/cifar.example.pem": pem, "/etc/ssl/cifar.example.key": key}
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off;\n{paths}{replace(read_example('nginx'), changes)}}}"
    )
    return [programs.find_program("nginx"), "-c", str(folder / "nginx.conf")]


def configure_caddy(folder: Path, port: int, behind: str, certificate: tuple[Path, Path]) -> list[str]:
    pem, key = map(str, certificate)
    site = f"https://cifar.example:{port} {{\n    tls {pem} {key}\n"
    changes = {"cifar.example {\n": site, "127.0.0.1:8080": behind}
    options = "{\n    admin off\n    auto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + replace(read_example("caddyfile"), changes))
    return ["env", f"HOME={folder}", "caddy", "run", "--config", str(folder / "Caddyfile")]


@pytest.fixture(scope="module", params=[configure_nginx, configure_caddy], ids=["nginx", "caddy"])
def public(
    request: pytest.FixtureRequest,
    system: Config,
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[tuple[str, Config]]:
    """The address of a documented proxy, and our own proxy between it and the system."""
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


async def test_a_documented_proxy_passes_small_and_large_uploads(
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
            statuses = [event.json()["status"] async for event in read_events(stream)]
        assert statuses[-1] == "succeeded"
        async with aconnect_sse(client, "GET", "/api/events") as stream:
            id = (await client.post("/api/predict", files={"file": cat})).json()["id"]
            async for event in read_events(stream):
                if event.json()["id"] == id:
                    break


async def test_behind_a_documented_proxy_other_sites_change_nothing_and_other_host_names_are_refused(
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
