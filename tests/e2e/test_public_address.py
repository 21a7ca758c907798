"""The public address of the site: its host is served, and its pages may upload."""

from pathlib import Path

import pytest

from scripts.local import files
from scripts.local.config import SetupError
from tests.e2e.proxy import try_upload


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
async def test_the_public_address_may_upload_and_similar_ones_may_not(
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
async def test_host_and_origin_may_differ_by_the_default_port_of_the_scheme(
    tmp_path: Path, host: str, origin: str, status: int
) -> None:
    assert (await try_upload(tmp_path, host, {"Origin": origin}, HOST_NAMES=".*"))[0] == status


@pytest.mark.parametrize("url", ["cifar.example", "https://", "https://a b", 'https://a"b', "https://a/$b"])
def test_an_invalid_public_address_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="PUBLIC_URL is"):
        files.check_public_url(url)
