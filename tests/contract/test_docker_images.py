"""The packages in each service's Docker image, according to uv.lock."""

import tomllib

import pytest

from scripts.local.config import REPOSITORY

LOCK = tomllib.loads((REPOSITORY / "uv.lock").read_text())


def closure(service: str) -> set[str]:
    """All packages that a service needs, except ONNX Runtime, which the root pyproject.toml has in groups."""
    needs: dict[str, set[str]] = {}
    for package in LOCK["package"]:
        dependencies = package.get("dependencies", []) + [
            dependency for extra in package.get("optional-dependencies", {}).values() for dependency in extra
        ]
        needs.setdefault(package["name"], set()).update(d["name"] for d in dependencies)
    found: set[str] = set()
    waiting = [service]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(needs[name])
    return found


@pytest.mark.parametrize(
    ("service", "needed", "forbidden"),
    [
        ("backend", {"fastapi", "aio-pika", "asyncpg", "pillow"}, {"torch", "celery", "kombu", "numpy"}),
        (
            "inference",
            {"onnx", "numpy", "celery", "psycopg-binary"},
            {"fastapi", "aio-pika", "torch", "torchvision", "safetensors", "pillow"},
        ),
        (
            "training",
            {"torch", "torchvision", "onnx", "onnxscript", "celery", "psycopg-binary"},
            {"fastapi", "aio-pika", "asyncpg"},
        ),
    ],
)
def test_a_docker_image_holds_what_its_service_needs_and_nothing_forbidden(
    service: str, needed: set[str], forbidden: set[str]
) -> None:
    packages = closure(service)
    assert needed <= packages
    assert not forbidden & packages


def test_the_lock_file_names_no_private_registry() -> None:
    registries = {package["source"].get("registry") for package in LOCK["package"]}
    assert registries <= {None, "https://pypi.org/simple"}
