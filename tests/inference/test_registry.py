"""Which version becomes active, in the real table."""

import time
from collections.abc import Generator
from typing import Any

import asyncpg
import psycopg
import pytest

from inference.registry import Registry
from scripts.local.config import Config


@pytest.fixture
def registry(servers: Config) -> Generator[Registry]:
    registry = Registry(servers.database_url("worker"))
    yield registry
    registry.disconnect()


def card(accuracy: float | None = 0.9, test: str | None = "same", **more: Any) -> dict[str, Any]:
    return {"accuracy": accuracy, "data": {"test_sha256": test}} | more


@pytest.mark.parametrize("activation", [None, "better", "always", "never"])
async def test_the_first_version_is_activated_in_any_case(
    activation: str | None, registry: Registry, database: asyncpg.Connection
) -> None:
    assert registry.register("v1", {"activation": activation} if activation else {})
    assert registry.look([]).active == "v1"


@pytest.mark.parametrize(
    ("found", "becomes_active"),
    [
        (card(0.91), True),
        (card(0.91, activation="better"), True),
        (card(0.9), False),
        (card(0.89), False),
        (card(0.91, test="other"), False),
        (card(0.91, test=None), False),
        (card(None), False),
        ({"accuracy": 0.91}, False),
        ({}, False),
        (card(0.91, activation="never"), False),
        (card(0.1, test="other", activation="always"), True),
        ({"activation": "always"}, True),
    ],
    ids=str,
)
async def test_a_later_version_is_activated_if_it_is_better_or_its_card_asks_for_it(
    found: dict[str, Any], *, becomes_active: bool, registry: Registry, database: asyncpg.Connection
) -> None:
    registry.register("v1", card())
    assert registry.register("v2", found) is becomes_active
    assert registry.look([]).active == ("v2" if becomes_active else "v1")


async def test_a_version_is_compared_with_the_active_one_and_not_with_the_best(
    registry: Registry, database: asyncpg.Connection
) -> None:
    registry.register("v1", card(0.9))
    registry.register("v2", card(0.95))
    await database.execute("UPDATE models SET activated_at = clock_timestamp() WHERE version = 'v1'")
    assert registry.look([]).active == "v1"
    assert registry.register("v3", card(0.92))


async def test_a_version_is_registered_once(registry: Registry, database: asyncpg.Connection) -> None:
    assert registry.register("v1", card(0.9))
    assert registry.register("v1", card(0.1)) is None
    assert not registry.register_refused("v1", "broken")
    assert await database.fetchval("SELECT card ->> 'accuracy' FROM models") == "0.9"


async def test_when_the_active_version_is_refused_the_previous_one_is_active_again(
    registry: Registry, database: asyncpg.Connection
) -> None:
    assert registry.register_refused("v0", "broken")
    assert registry.look([]).active is None
    assert not registry.look([]).has_usable
    registry.register("v1", card(0.8))
    registry.register("v2", card(0.9))
    registry.refuse("v2", "damaged")
    assert registry.look([]).active == "v1"
    assert await database.fetchval("SELECT error FROM models WHERE version = 'v2'") == "damaged"
    assert registry.register("v3", card(0.85))  # better than v1, which is the active one again


async def test_without_an_active_version_the_latest_usable_one_is_activated(
    registry: Registry, database: asyncpg.Connection
) -> None:
    registry.register("v1", card(0.9))
    for version in ("v2", "v3"):
        registry.register(version, card(0.1))
    registry.register_refused("v4", "broken")
    registry.refuse("v1", "damaged")
    view = registry.look([])
    assert (view.active, view.has_usable) == (None, True)
    registry.activate_latest()
    assert registry.look([]).active == "v3"
    registry.activate_latest()
    assert registry.look([]).active == "v3"


async def test_versions_without_a_row_are_listed_in_the_order_given(
    registry: Registry, database: asyncpg.Connection
) -> None:
    registry.register("v2", card())
    registry.register_refused("v4", "broken")
    assert registry.look(["v1", "v2", "v3", "v4"]).unknown == ["v1", "v3"]


async def test_a_version_counts_as_served_until_it_is_activated_again(
    registry: Registry, database: asyncpg.Connection
) -> None:
    registry.register("v1", card())
    assert not registry.look([]).is_served
    registry.mark_served("v1")
    assert registry.look([]).is_served
    await database.execute("UPDATE models SET activated_at = clock_timestamp() WHERE version = 'v1'")
    assert not registry.look([]).is_served


async def test_activation_and_serving_work_after_the_clock_was_set_back(
    registry: Registry, database: asyncpg.Connection
) -> None:
    registry.register("v1", card())
    await database.execute("UPDATE models SET activated_at = clock_timestamp() + interval '1 hour'")
    registry.mark_served("v1")
    assert registry.look([]).is_served
    registry.register("v2", card(activation="always"))
    assert registry.look([]).active == "v2"
    assert not registry.look([]).is_served


async def test_two_workers_that_register_at_the_same_time_take_turns(
    servers: Config, registry: Registry, database: asyncpg.Connection
) -> None:
    """Otherwise both find no active version, and each activates its own, even if the card says `never`."""
    with psycopg.connect(servers.database_url("worker")) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('models'))")
        registry.look([])
        registry._open().execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            registry.register("v1", card())


async def test_a_card_that_the_database_refuses_raises_a_data_error(
    registry: Registry, database: asyncpg.Connection
) -> None:
    with pytest.raises(psycopg.DataError):
        registry.register("v1", {"name": "\0"})
    assert registry.look(["v1"]).unknown == ["v1"]


async def test_waiting_ends_when_the_table_changes(registry: Registry, database: asyncpg.Connection) -> None:
    registry.look([])
    await database.execute("INSERT INTO models (version, card) VALUES ('v1', '{}')")
    started = time.monotonic()
    registry.wait(30)
    assert time.monotonic() - started < 10
