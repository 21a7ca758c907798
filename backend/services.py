"""The long-lived objects of one backend. `main.py` runs them, the routes use them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import Request

from backend.broker import Broker
from backend.containers import Containers
from backend.database import DirectConnection
from backend.decoders import Decoders
from backend.event_log import EventLog
from backend.events import EventFeed
from backend.gpus import Gpus
from backend.health import Checks
from backend.history import History
from backend.metrics import Metrics
from backend.models import Models
from backend.pools import Pools
from backend.predictions import Predictions
from backend.relay import Relay
from backend.retention import Retention
from backend.settings import Settings
from backend.submissions import Submissions
from backend.trainings import Trainings
from backend.uploads import UploadReader
from backend.workers import Workers


class Services:
    """Builds all connections and long-lived objects. Other modules use only the public ones."""

    def __init__(self, settings: Settings) -> None:
        database_url = settings.database_url.get_secret_value()
        self._pools = pools = Pools(database_url, settings.database_connections)
        self._insert_connection = DirectConnection(database_url)
        self._event_connection = DirectConnection(database_url)
        self._containers = Containers(settings.docker_url, settings.docker_label)
        self._gpus = Gpus()
        self._retention = Retention(database_url, settings.retention_days)
        workers = Workers()
        self.decoders = Decoders(settings.max_image_pixels, settings.max_decode_seconds)
        self.uploads = UploadReader(settings, self.decoders)
        self.predictions = Predictions(pools.main, self._insert_connection, self.decoders.idle)
        self.trainings = Trainings(pools.main)
        self.history = History(pools.main, pools.searches, pools.exports)
        self.models = Models(pools.main, settings.models_path)
        self.event_log = EventLog(pools.main)
        self.broker = Broker(settings.broker_url.get_secret_value(), workers.receive)
        self.relay = Relay(self.predictions, self.trainings, self.broker)
        self.events = EventFeed(EventLog(self._event_connection), database_url)
        self.metrics = Metrics(pools.main, self.relay, self.events, self.uploads)
        self.submissions = Submissions(
            pools.main, self.predictions, self.relay, self.events, self.metrics, settings.max_unfinished
        )
        self.checks = Checks(
            pools.health, self.broker, workers, self._containers, self._gpus, self.events, self.relay
        )

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Start the objects that run in the background. At the end, stop them and close all connections."""
        await self.decoders.start()
        await self.broker.open()
        self.relay.start()
        self.events.start()
        background = [asyncio.create_task(part.run()) for part in (self._retention, self._containers)]
        try:
            yield
        finally:
            self.checks.stop()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.events.stop()
            await self.relay.stop()
            await self.broker.close()
            await self._containers.close()
            self._gpus.close()
            await self.decoders.stop()
            self._insert_connection.close()
            self._event_connection.close()
            await self._pools.close()


def get_services(request: Request) -> Services:
    """The app's services. Not a FastAPI dependency: that took 7% of the backend's CPU time for an upload."""
    return request.app.state.services
