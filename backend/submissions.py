"""Submissions: store decoded files as rows, publish them, and wait for outcomes if the client asks."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from backend import logs
from backend.database import Pool
from backend.errors import FileRefused, Refusal, ServiceError
from backend.events import EventFeed, wait_for
from backend.idempotency import insert_once
from backend.messages import BULK, INFERENCE
from backend.metrics import Metrics
from backend.prediction_rows import NewPrediction
from backend.predictions import Predictions
from backend.relay import Relay
from backend.schemas import Failure
from backend.schemas.predictions import Prediction, Refused
from backend.uploads import UploadedFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submissions:
    """Stores the files of uploads as predictions. Methods raise what Pool.fetch raises."""

    pool: Pool
    predictions: Predictions
    relay: Relay
    events: EventFeed
    metrics: Metrics
    max_unfinished: int

    def check_room(self) -> None:
        """Raises TOO_MANY_PREDICTIONS if too many predictions are unfinished."""
        if self.relay.unfinished >= self.max_unfinished:
            detail = f"{self.relay.unfinished:,} predictions are waiting. Try again in a few seconds."
            raise ServiceError(Refusal.TOO_MANY_PREDICTIONS, detail)

    async def submit(
        self, files: Sequence[UploadedFile], deadline: float | None, key: str | None
    ) -> list[Prediction | Refused]:
        """Store and publish the files of one request; returns an entry for each file, in the order sent.

        deadline: wait for the outcomes until this time of the event loop's clock; None: do not wait.
        key: the Idempotency-Key. Raises NOTHING_ACCEPTED, KEY_REUSED, or FileRefused for a lone refused file.
        """
        bulk = len(files) > 1
        if not bulk and isinstance(error := files[0].pixels, FileRefused):
            # A new error: raising the stored one would make a reference cycle, which is freed late.
            raise FileRefused(error.refusal, error.detail)
        entries = [self._accept_or_refuse(file, bulk=bulk) for file in files]
        rows = [entry for entry in entries if isinstance(entry, NewPrediction)]
        if not rows:
            detail = "Every file was refused. Each entry of `predictions` gives the reason."
            refused = [entry.model_dump() for entry in entries if isinstance(entry, Refused)]
            raise ServiceError(Refusal.NOTHING_ACCEPTED, detail, predictions=refused)
        store = self._store(rows, deadline) if key is None else self._store_once(rows, deadline, key)
        predictions = iter(await store)
        return [entry if isinstance(entry, Refused) else next(predictions) for entry in entries]

    async def insert(self, rows: list[NewPrediction]) -> None:
        """Commit new rows, and announce them."""
        await self.predictions.insert(rows)
        self._announce(rows)

    async def _store(self, rows: list[NewPrediction], deadline: float | None) -> list[Prediction]:
        queued = [row.as_queued() for row in rows]
        if deadline is None:
            await self.insert(rows)
            return queued
        with self.events.awaited.add([row.id for row in rows]) as subscription:
            await self.insert(rows)
            return await wait_for(queued, subscription, deadline)

    async def _store_once(
        self, rows: list[NewPrediction], deadline: float | None, key: str
    ) -> list[Prediction]:
        """Store the rows unless they are already stored under this key. Returns the stored predictions."""
        stored = await insert_once(self.pool, rows, key)
        if new := [row for row, (_, is_new) in zip(rows, stored, strict=True) if is_new]:
            self._announce(new)
        predictions = [prediction for prediction, _ in stored]
        if deadline is None:
            return predictions
        with self.events.awaited.add([prediction.id for prediction in predictions]) as subscription:
            # Read again: a prediction may have ended before the subscription began. A row that was deleted
            # meanwhile is stored again, and the relay publishes it later.
            latest = [prediction for prediction, _ in await insert_once(self.pool, rows, key)]
            return await wait_for(latest, subscription, deadline)

    def _announce(self, rows: list[NewPrediction]) -> None:
        """Publish the messages of stored rows of one request, and count and log the rows."""
        request_id = logs.request_id.get()
        queue = BULK if rows[0].bulk else INFERENCE
        self.relay.publish_soon(queue, [(row.id, request_id) for row in rows])
        self.metrics.accepted.inc(len(rows))
        logger.info("upload accepted", extra={"prediction_ids": [str(row.id) for row in rows]})

    def _accept_or_refuse(self, file: UploadedFile, *, bulk: bool) -> NewPrediction | Refused:
        """The row of a decoded file, or the entry of a refused one. Counts and logs each refusal."""
        if isinstance(file.pixels, bytes):
            return NewPrediction(file.filename, file.pixels, bulk=bulk)
        title, detail = file.pixels.refusal.title, file.pixels.detail
        self.metrics.refused.labels(title).inc()
        logger.info("file refused", extra={"title": title, "file": file.filename})
        return Refused(filename=file.filename, error=Failure(title=title, detail=detail))
