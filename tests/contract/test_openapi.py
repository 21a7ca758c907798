"""The backend's OpenAPI description: it equals ui/openapi.json, and its errors are problem+json.

The UI's types are generated from ui/openapi.json.
"""

import json

from backend.main import build_app
from backend.settings import Settings
from scripts.local.config import REPOSITORY


def test_the_committed_openapi_file_equals_the_backend_s_description() -> None:
    settings = Settings(database_url="postgresql://x", broker_url="amqp://x")  # pyright: ignore
    committed = json.loads((REPOSITORY / "ui/openapi.json").read_text())
    assert build_app(settings).openapi() == committed, "run: make fix"


def test_every_error_is_described_as_problem_json() -> None:
    settings = Settings(database_url="postgresql://x", broker_url="amqp://x")  # pyright: ignore
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in build_app(settings).openapi()["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and path != "/api/health":  # its 503 is the health report
                    assert answer["content"] == problem, (path, status)
