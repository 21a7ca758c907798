"""Models over HTTP: the list, activation and pictures, also with malformed cards and picture files."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from PIL import Image

from backend.pictures import MAX_BYTES, NAMES
from backend.settings import Settings
from tests.backend.conftest import Api, Serve, assert_problem
from tests.images.files import encode

CARD = {
    "version": "m-1",
    "classes": ["cat", "dog"],
    "accuracy": 0.94,
    "calibration_error": 0.011,
    "data": {"name": "CIFAR-10", "train_images": 50000, "test_sha256": "ab"},
    "training": {"recipe": "fast", "seconds": 12.5, "curve": [{"number": 1, "loss": 2.1}]},
}
PNG = encode(Image.new("RGB", (4, 3)))
Add = Callable[..., Awaitable[None]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of models, beside a secret file."""
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
async def api(serve: Serve, settings: Settings, folder: Path) -> Api:
    return await serve(settings.model_copy(update={"models_path": folder}))


@pytest.fixture
def add(database: asyncpg.Connection) -> Add:
    """Act as the worker: register a version."""

    async def register(
        version: str, card: object = CARD, error: str | None = None, activated: str | None = None
    ) -> None:
        text = card if isinstance(card, str) else json.dumps(card)
        await database.execute(
            """INSERT INTO models (version, card, error, activated_at)
               VALUES ($1, $2::jsonb, $3, $4::text::timestamptz)""",
            *(version, text, error, activated),
        )

    return register


async def active(api: Api) -> list[str]:
    models = (await api.client.get("/api/models")).json()["results"]
    return [model["version"] for model in models if model["active"]]


async def test_without_models_the_list_is_empty(api: Api) -> None:
    assert (await api.client.get("/api/models")).json() == {"results": []}


async def test_models_are_listed_newest_first_with_figures_of_their_cards(api: Api, add: Add) -> None:
    await add("m-1", activated="2026-01-01T00:00:00Z")
    await add("m-2", {}, error="The file's SHA-256 is not the card's; publish it again.")
    newer, older = (await api.client.get("/api/models")).json()["results"]
    assert [older["version"], newer["version"]] == ["m-1", "m-2"]
    assert (older["accuracy"], older["calibration_error"], older["classes"]) == (0.94, 0.011, ["cat", "dog"])
    assert older["training"] == {"recipe": "fast", "seconds": 12.5}
    assert older["data"] == CARD["data"]
    assert (older["active"], older["error"], older["served_at"]) == (True, None, None)
    assert older["activated_at"] == "2026-01-01T00:00:00Z"
    assert older["pictures"] == []
    place = "/api/models/m-1"
    assert older["urls"] == {"self": place, "card": place, "activate": f"{place}/activate"}
    assert "card" not in older
    parts = ("accuracy", "calibration_error", "classes", "training", "data", "activated_at")
    assert [newer[part] for part in parts] == [None] * 6
    assert (newer["active"], "SHA-256" in newer["error"]) == (False, True)


async def test_one_model_has_its_whole_card(api: Api, add: Add) -> None:
    await add("m-1")
    assert (await api.client.get("/api/models/m-1")).json()["card"] == CARD


DEEP = "[" * 3000 + "]" * 3000


@pytest.mark.parametrize(
    "card",
    [
        "[]",
        "null",
        "3",
        '"text"',
        '{"accuracy": "high", "classes": "cat", "training": [], "data": 5, "calibration_error": true}',
        '{"accuracy": {}, "classes": [1, 2], "training": "curve", "data": [1], "calibration_error": []}',
        '{"accuracy": 1e400, "calibration_error": -1e999}',
        '{"accuracy": ' + "9" * 10_000 + ', "calibration_error": null}',
        '{"accuracy": null, "training": ' + DEEP + ', "data": {"deep": ' + DEEP + "}}",
    ],
    ids=["list", "null", "number", "text", "wrong types", "other wrong types", "infinite", "long", "deep"],
)
async def test_unusable_parts_of_a_malformed_card_are_null(card: str, api: Api, add: Add) -> None:
    await add("m-1", card)
    (listed,) = (await api.client.get("/api/models")).json()["results"]
    one = await api.client.get("/api/models/m-1")
    assert one.status_code == 200
    for model in (listed, one.json()):
        parts = ("accuracy", "calibration_error", "classes", "training", "data")
        assert [model[part] for part in parts] == [None] * 5


async def test_numbers_in_a_card_that_are_too_large_for_a_float_are_null(api: Api, add: Add) -> None:
    huge = "9" * 400 + ".5"
    card = f'{{"data": {{"name": {huge}}}, "training": {{"seconds": -{huge}}}, "accuracy": 1}}'
    await add("m-1", card)
    model = (await api.client.get("/api/models/m-1")).json()
    assert (model["accuracy"], model["data"], model["training"]) == (1, {"name": None}, {"seconds": None})


async def test_the_model_activated_last_without_an_error_is_the_active_one(
    api: Api, add: Add, database: asyncpg.Connection
) -> None:
    await add("m-1", activated="2026-01-01T00:00:00Z")
    await add("m-2", activated="2026-01-02T00:00:00Z")
    await add("m-3", activated="2026-01-03T00:00:00Z", error="It gave no finite probabilities.")
    await add("m-4")
    assert await active(api) == ["m-2"]
    await database.execute("UPDATE models SET error = 'It is gone.' WHERE version = 'm-2'")
    assert await active(api) == ["m-1"]


async def test_activating_a_model_makes_it_active_and_notifies_the_workers(
    api: Api, add: Add, database: asyncpg.Connection
) -> None:
    await add("m-1", activated="2999-01-01T00:00:00Z")  # the clock was ahead and has been set back
    await add("m-2")
    notifications: list[object] = []
    await database.add_listener("models", lambda *args: notifications.append(args))
    answer = await api.client.post("/api/models/m-2/activate")
    assert answer.status_code == 200
    assert (answer.json()["active"], answer.json()["card"]) == (True, CARD)
    assert await active(api) == ["m-2"]
    await database.execute("SELECT 1")
    assert len(notifications) == 1


async def test_activating_the_active_model_changes_nothing(
    api: Api, add: Add, database: asyncpg.Connection
) -> None:
    await add("m-1", activated="2026-01-01T00:00:00Z")
    answer = await api.client.post("/api/models/m-1/activate")
    assert (answer.status_code, answer.json()["active"]) == (200, True)
    assert answer.json()["activated_at"] == "2026-01-01T00:00:00Z"


async def test_a_model_with_an_error_cannot_be_activated(api: Api, add: Add) -> None:
    await add("m-1", activated="2026-01-01T00:00:00Z")
    await add("m-2", error="A tensor is missing.")
    answer = await api.client.post("/api/models/m-2/activate")
    assert_problem(answer, 409, "A tensor is missing", "GET /api/models")
    assert await active(api) == ["m-1"]


@pytest.mark.parametrize(
    "version", ["m-9", ".runs", "%00", "a%00b", "..", "%2e%2e", "x" * 101, "%C3%A9", "a%0A", "%ff"]
)
@pytest.mark.parametrize("part", ["", "/activate", "/pictures/confusion"])
async def test_an_unknown_model_is_a_problem(version: str, part: str, api: Api) -> None:
    method = "POST" if part == "/activate" else "GET"
    answer = await api.client.request(method, f"/api/models/{version}{part}")
    assert_problem(answer, 404)


async def test_existing_pictures_are_listed_and_can_be_read(api: Api, add: Add, folder: Path) -> None:
    await add("m-1")
    (folder / "m-1").mkdir()
    for name in ("confusion", "learning-curve", "something-else"):
        (folder / f"m-1/{name}.png").write_bytes(PNG)
    (listed,) = (await api.client.get("/api/models")).json()["results"]
    assert [picture["name"] for picture in listed["pictures"]] == ["learning-curve", "confusion"]
    answer = await api.client.get(listed["pictures"][1]["url"])
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "immutable" in answer.headers["cache-control"]
    again = await api.client.get(
        listed["pictures"][1]["url"], headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def link_folder(place: Path) -> None:
    elsewhere = place.parents[2] / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / place.name).write_bytes(PNG)
    place.parent.rmdir()
    place.parent.symlink_to(elsewhere)


def make_large(place: Path) -> None:
    place.write_bytes(PNG)
    os.truncate(place, MAX_BYTES + 1)


TRICKS: dict[str, Callable[[Path], object]] = {
    "a link": lambda place: place.symlink_to(place.parents[2] / "secret.png"),
    "a relative link": lambda place: place.symlink_to("../../secret.png"),
    "a link to nothing": lambda place: place.symlink_to("nothing"),
    "a linked folder": link_folder,
    "a folder": lambda place: place.mkdir(),
    "a pipe": lambda place: os.mkfifo(place),
    "empty": lambda place: place.write_bytes(b""),
    "HTML": lambda place: place.write_bytes(b"<script>alert(1)</script>"),
    "HTML after a signature": lambda place: place.write_bytes(b"\x89PNG\r\n\x1a\n<script>"),
    "JPEG": lambda place: place.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100)),
    "too large": make_large,
    "absent": lambda place: place.exists(),
}


@pytest.mark.parametrize("trick", TRICKS)
async def test_files_that_are_not_regular_pngs_are_neither_listed_nor_read(
    trick: str, api: Api, add: Add, folder: Path
) -> None:
    await add("m-1")
    (folder / "m-1").mkdir()
    TRICKS[trick](folder / "m-1/confusion.png")
    assert (await api.client.get("/api/models/m-1")).json()["pictures"] == []
    assert_problem(await api.client.get("/api/models/m-1/pictures/confusion"), 404, "Unknown picture")


@pytest.mark.parametrize(
    "name",
    [
        *("secret", "confusion.png", "../m-1/confusion", "%2e%2e%2fm-1%2fconfusion", "..%2f..%2fsecret"),
        *("%2fetc%2fpasswd", "confusion%00", "", "CONFUSION", "model.onnx", "card.json"),
    ],
)
async def test_an_unknown_name_of_a_picture_is_refused(name: str, api: Api, add: Add, folder: Path) -> None:
    await add("m-1")
    (folder / "m-1").mkdir()
    (folder / "m-1/confusion.png").write_bytes(PNG)
    answer = await api.client.get(f"/api/models/m-1/pictures/{name}")
    assert_problem(answer, 404)


async def test_the_answer_to_an_unknown_name_lists_the_pictures(api: Api, add: Add) -> None:
    await add("m-1")
    answer = await api.client.get("/api/models/m-1/pictures/loss")
    assert_problem(answer, 404, "Unknown picture", *NAMES)


async def test_a_folder_without_a_row_has_no_pictures(api: Api, folder: Path) -> None:
    (folder / "m-1").mkdir()
    (folder / "m-1/confusion.png").write_bytes(PNG)
    assert_problem(await api.client.get("/api/models/m-1/pictures/confusion"), 404, "Unknown model")


async def test_models_are_listed_even_if_the_folder_does_not_exist(
    serve: Serve, settings: Settings, add: Add, folder: Path
) -> None:
    api = await serve(settings.model_copy(update={"models_path": folder / "nowhere"}))
    await add("m-1")
    (model,) = (await api.client.get("/api/models")).json()["results"]
    assert (model["accuracy"], model["pictures"]) == (0.94, [])
