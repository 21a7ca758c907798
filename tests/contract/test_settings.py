"""Each field of a service's `Settings` is in compose.yaml and docs/settings.md.

If users may set it, it is also in .env.example, and its default is the same in all these files. The proxy's
settings are in docs/settings.md, and with their default in .env.example (RESOLVER is not checked).
"""

import re

import pytest

from backend.settings import Settings as BackendSettings
from inference.settings import Settings as InferenceSettings
from scripts.local.config import MAX_REQUEST_BYTES, REPOSITORY
from training.worker.settings import Settings as TrainingSettings

FIELDS = {
    (service, name): field.default
    for service, settings in (
        ("backend", BackendSettings),
        ("inference", InferenceSettings),
        ("training", TrainingSettings),
    )
    for name, field in settings.model_fields.items()
}
SECRETS = {"database_url", "broker_url"}
SET_BY_COMPOSE = {
    "models_path",
    "data_sets",
    "cache_path",
    "docker_url",
    "docker_label",
    "metrics_address",
    "alive_file",
    "torch_installer",
}


def service_block(service: str) -> str:
    """The lines of one service in compose.yaml."""
    lines = (REPOSITORY / "compose.yaml").read_text().splitlines()
    start = lines.index(f"  {service}:")
    end = next(
        (n for n, line in enumerate(lines[start + 1 :], start + 1) if line[:3].strip()),
        len(lines),
    )
    return "\n".join(lines[start:end])


@pytest.mark.parametrize(("service", "name"), sorted(FIELDS))
def test_a_setting_is_passed_by_compose_and_documented_with_the_same_default(service: str, name: str) -> None:
    variable = name.upper()
    assert (name if name in SECRETS else f"{variable}:") in service_block(service)
    assert f"`{variable}`" in (REPOSITORY / "docs/settings.md").read_text()
    if name not in SECRETS | SET_BY_COMPOSE:
        default = FIELDS[service, name]
        assert f"${{{variable}:-{default}}}" in (REPOSITORY / "compose.yaml").read_text()
        assert f"# {variable}={default}\n" in (REPOSITORY / ".env.example").read_text()
        documented = re.escape(f"| `{variable}` | {default}") + r"\b"
        assert re.search(documented, (REPOSITORY / "docs/settings.md").read_text())


def test_the_size_limit_of_a_request_in_local_mode_is_the_default_of_the_backend() -> None:
    assert BackendSettings.model_fields["max_request_bytes"].default == MAX_REQUEST_BYTES


def test_docker_and_local_mode_fill_in_every_value_of_the_proxy_and_its_settings_are_documented() -> None:
    names = set(re.findall(r"\$\{(\w+)\}", (REPOSITORY / "proxy/site.conf.template").read_text()))
    local = (REPOSITORY / "scripts/local/files.py").read_text()
    container = service_block("proxy") + (REPOSITORY / "proxy/Dockerfile").read_text()
    assert "TRUSTED_PROXIES:" in container  # from it the container sets REAL_IP_FROM and TRUSTED_ADDRESSES
    assert {name for name in names if f'"{name}":' not in local} == set()
    assert {name for name in names if f"{name}:" not in container and f"{name}=" not in container} == set()
    for setting, default in (
        ("RATE_LIMIT_PER_SECOND", "1000"),
        ("HOST_NAMES", ".*"),
        ("PUBLIC_URL", ""),
        ("TRUSTED_PROXIES", ""),
    ):
        assert f"`{setting}`" in (REPOSITORY / "docs/settings.md").read_text()
        assert f"{setting}={default}" in (REPOSITORY / ".env.example").read_text()
