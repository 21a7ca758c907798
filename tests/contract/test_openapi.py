"""The backend's OpenAPI description: it equals ui/openapi.json, and every problem in it has a schema.

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


def test_every_problem_has_its_schema_under_its_media_type() -> None:
    settings = Settings(database_url="postgresql://x", broker_url="amqp://x")  # pyright: ignore
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in build_app(settings).openapi()["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and path != "/api/health":
                    assert answer["content"] == problem, (path, status)
