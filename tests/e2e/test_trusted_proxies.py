"""Which proxies in front of nginx may set the client's address, the host and the scheme."""

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from scripts.local import files
from scripts.local.config import REPOSITORY, SetupError
from tests.conftest import eventually, run_proxy
from tests.e2e.proxy import assert_is_problem, find_in_log, run_backend, try_upload, upload

FORWARDED = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cifar.example",
}


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.9.9.9, 127.0.0.0/8", "::1 127.0.0.1/32"])
async def test_headers_of_a_trusted_proxy_set_client_host_and_scheme(tmp_path: Path, trusted: str) -> None:
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
        ({"X_Forwarded_Host": "cifar.example https://cifar.example"}, 403),  # not a host name
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
            # One client sends a new forged address each time. Only its own address, the last one, counts.
            forged = [
                await upload(config, "localhost", X_Forwarded_For=f"203.0.113.{n}, 198.51.100.9")
                for n in range(4)
            ]
    assert [answer.status_code for answer in forged][-1] == 429


@pytest.mark.parametrize("proxies", ["", "127.0.0.1", "10.0.0.0/8,::1", " 192.0.2.1 , 2001:db8::/32 "])
def test_docker_and_local_mode_write_the_same_directives(proxies: str) -> None:
    assert source_trusted_proxies(proxies) == list(files.trust(proxies).values())


def test_docker_passes_a_star_on_to_nginx() -> None:
    assert source_trusted_proxies("*") == [" set_real_ip_from *;", " * 1;"]


def source_trusted_proxies(proxies: str) -> list[str]:
    """The values of REAL_IP_FROM and TRUSTED_ADDRESSES from trusted-proxies.envsh."""
    script = '. "$0"; printf "%s\\n" "$REAL_IP_FROM" "$TRUSTED_ADDRESSES"'
    command = ["sh", "-c", script, str(REPOSITORY / "proxy/trusted-proxies.envsh")]
    done = subprocess.run(
        command, env={"TRUSTED_PROXIES": proxies}, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[:2]


@pytest.mark.parametrize("proxies", ["proxy", "10.0.0.0/33", "127.0.0.1; return 200", "*"])
def test_local_mode_refuses_an_invalid_trusted_proxy(proxies: str) -> None:
    with pytest.raises(SetupError, match="TRUSTED_PROXIES holds"):
        files.trust(proxies)
