"""Live status: passes the changes of predictions to the streams and requests that wait for them.

schema.sql records every change as an event, except the removals of retention. Events are numbered in commit
order: a transaction that sees a number sees all lower numbers. One connection LISTENs. A notification only
says "read again". The loop `_read` then queries the events after the last one that was read, page by page,
with the rows of their predictions. A missed notification delays events by a few seconds, but loses none.

Each stream receives every event of its predictions exactly once, with one exception: if one query finds
several events of a prediction, only the latest is sent. A request that waits receives only outcomes and
removals. Streams and waiting requests are called readers:

- A reader is registered first. Then its own query reads the current state and the number of the latest event
  in one snapshot. Events up to that number are part of this state and are not sent again.
- The loop `_read` looks up the registered readers after its query has returned. An event that a
  reader's own query did not see was committed after that query, so after the registration. The loop's query
  that finds this event returns even later. So the loop finds the reader registered.
- The loop skips events only if no reader is registered when its query returns. A reader that registers later
  reads a later state.
- If events may be missing (unread events were removed, one statement changed over 1,000 predictions, or the
  database was replaced), every stream of predictions ends, and every waiting request is answered. Clients
  reconnect with their Last-Event-ID. The stream of all predictions sends `reload` if it cannot resume.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from backend.errors import RETRY_SECONDS, DatabaseAway
from backend.event_log import EventLog, Reading
from backend.listener import REREAD_SECONDS, Listener
from backend.schemas import TERMINAL
from backend.schemas.predictions import Prediction
from backend.sse import KEEP_ALIVE_SECONDS
from backend.subscriptions import Change, Subscription, Subscriptions

logger = logging.getLogger(__name__)

# Channels of schema.sql.
PROGRESS, OUTCOMES, TRAININGS = "progress", "outcomes", "trainings"
PAGE = 1000  # predictions in one read
KEPT_EVENTS = 20_000  # in the database
# Streams that send in one turn of the event loop. An upload takes about ten turns. Lower: an event reaches
# the last stream later. Higher: uploads wait longer.
SENT_TOGETHER = 4
# Before streams are woken, there is a pause of this length times their number: 20 ms for 2,000 streams. So
# several events often go out in one write. Lower: more writes. Higher: later events.
COLLECT_SECONDS = 10e-6


class EventFeed:
    """Reads events and passes them to their readers. It also wakes the streams of trainings."""

    def __init__(self, log: EventLog, database_url: str) -> None:
        self._log = log
        handlers = {PROGRESS: self._on_progress, OUTCOMES: self._on_outcome, TRAININGS: self._on_training}
        self._listener = Listener(database_url, handlers)
        self.streams = Subscriptions()
        """The streams of predictions. They receive each change."""
        self.awaited = Subscriptions()
        """The requests that wait for outcomes. They receive outcomes and removals."""
        self.training_streams = Subscriptions()
        """The streams of trainings. They are woken for each change, and then read the training."""
        self._wake = asyncio.Event()
        self._unsent: dict[Subscription, None] = {}
        """The streams to wake, in order."""
        self._send, self._sent = asyncio.Event(), asyncio.Event()
        self._read_up_to: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Ends `_read` and `_keep_alive_and_trim` even if a library swallows their cancellation.
        self._closed = False

    def start(self) -> None:
        self._wake.set()
        listen = self._listener.run(self._on_connect)
        loops = (listen, self._read(), self._send_to_streams(), self._keep_alive_and_trim())
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    def close(self) -> None:
        """End all streams and all waits of requests, so that the server can stop."""
        self._closed = True
        for readers in (self.streams, self.awaited, self.training_streams):
            readers.close()

    async def stop(self) -> None:
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def listening(self) -> bool:
        """Whether events are passed on at once. If not, they are up to five seconds late."""
        return self._listener.listening and self._read_up_to is not None

    @property
    def open_streams(self) -> int:
        """The number of open event streams."""
        return len(self.streams) + len(self.training_streams)

    def _on_connect(self) -> None:
        self._wake.set()  # there may be changes from before the connection
        for subscription in self.training_streams:
            subscription.wake()

    def _on_progress(self, _payload: str) -> None:
        if self.streams:
            self._wake.set()

    def _on_outcome(self, _payload: str) -> None:
        if self.streams or self.awaited:
            self._wake.set()

    def _on_training(self, payload: str) -> None:
        for subscription in self.training_streams.of(UUID(payload)):
            subscription.wake()

    async def _read(self) -> None:
        """Read events after notifications while readers are registered, and at least every five seconds."""
        while not self._closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(REREAD_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._read_once()
                continue
            except DatabaseAway as error:
                logger.warning("cannot read events, trying again: %s", error)
            except Exception:
                logger.exception("reading events failed, trying again")
            await asyncio.sleep(RETRY_SECONDS)
            self._wake.set()

    async def _read_once(self) -> None:
        """Read a page of events and pass it on. The docstring of the module says why none is lost."""
        wanted = bool(self.streams or self.awaited)
        found = await self._log.read_after(self._read_up_to or 0, PAGE if wanted else 0)
        if not found.kept or not all(row.prediction_id for row in found.rows):
            self.streams.end()
            self.awaited.end()
        elif wanted:
            self._hand_out(found)
            if len(found.rows) == PAGE:  # there may be more events
                self._read_up_to = found.rows[-1].number
                self._wake.set()
                if self._unsent:  # more pages could fill the queue of a stream, which would then end
                    await self._sent.wait()
                return
        elif self.streams or self.awaited:  # a reader registered during the read
            self._wake.set()
            return
        self._read_up_to = found.latest

    def _hand_out(self, found: Reading) -> None:
        """Pass each change to its readers. A row without readers is not parsed."""
        for row in found.rows:
            streams = [*self.streams.of_all, *self.streams.of(row.prediction_id)]
            is_over = row.id is None or row.completed_at is not None  # removed or ended
            requests = list(self.awaited.of(row.prediction_id)) if is_over else []
            if streams or requests:
                change = Change.from_row(row)
                for subscription in (*requests, *streams):
                    subscription.put(change)
                for subscription in requests:
                    subscription.wake()
                self._send_soon(streams)

    def _send_soon(self, streams: Iterable[Subscription]) -> None:
        self._unsent |= dict.fromkeys(streams)
        self._sent.clear()
        self._send.set()

    async def _send_to_streams(self) -> None:
        """Wake the streams after a pause, a few at a time: thousands of streams must not delay uploads."""
        while True:
            await self._send.wait()
            await asyncio.sleep(len(self._unsent) * COLLECT_SECONDS)
            self._send.clear()
            streams, self._unsent = list(self._unsent), {}
            for start in range(0, len(streams), SENT_TOGETHER):
                for subscription in streams[start : start + SENT_TOGETHER]:
                    subscription.wake()
                await asyncio.sleep(0)
            if not self._unsent:
                self._sent.set()

    async def _keep_alive_and_trim(self) -> None:
        """Keep the streams alive and the table `events` small."""
        while not self._closed:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            self._send_soon(self.streams)
            try:
                await self._log.trim(KEPT_EVENTS)
            except DatabaseAway as error:
                logger.warning("cannot remove old events, trying again: %s", error)
            except Exception:
                logger.exception("removing old events failed, trying again")


async def wait_for(
    predictions: list[Prediction], subscription: Subscription, deadline: float
) -> list[Prediction]:
    """Returns the predictions when all have ended or were removed, at the latest at the deadline.

    deadline: in the time of the event loop. A removed prediction is returned as it last was. If the
    subscription ends, the wait ends, too.
    """
    latest = {prediction.id: prediction for prediction in predictions}
    unfinished = {id for id, prediction in latest.items() if prediction.status not in TERMINAL}
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while unfinished and (changes := await subscription.read()) is not None:
                for change in changes:
                    latest[change.id] = change.prediction or latest[change.id]
                    unfinished.discard(change.id)
    return [latest[prediction.id] for prediction in predictions]
