"""Finds new models, registers them, and keeps a worker on the active version.

A thread verifies, loads and warms up a model while the old one serves. The swap is one assignment, which
takes effect with the next batch. While the database is unreachable the worker keeps the version that it has.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from inference import artifact
from inference.classifier import Classifier, Loader
from inference.errors import ArtifactError
from inference.registry import Registry

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
SETTLE_SECONDS = 5.0
"""A broken version is refused once its files have not changed for this time. Until then, a copy may be in
progress. Lower: a slow copy is refused. Higher: a broken version is reported later."""
LATER_SECONDS = 30.0
"""A version that could not be tried (no process could start, for example) is tried again after this time."""
NEXT_STEP = "Train it again, or repair it and rename both the folder and the version in the card."


class Watcher:
    """Watches the table of models and their folder for one worker."""

    def __init__(self, registry: Registry, models: Path, loader: Loader, stopping: threading.Event) -> None:
        self.registry = registry
        self.models = models
        self.loader = loader
        self.stopping = stopping
        self.classifier: Classifier | None = None
        """The version that was loaded last. The worker serves it."""
        self._serve: Callable[[Classifier], None] | None = None
        self._marked: str | None = None  # the version that this worker last recorded as served
        self._later: dict[str, float] = {}  # the time of the next try, by version (monotonic clock)
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def wait_for_model(self) -> Classifier:
        """Wait until a version can be served, and return it."""
        while True:
            self.turn()
            if self.classifier is not None:
                return self.classifier
            self._rest()

    def start(self, serve: Callable[[Classifier], None]) -> None:
        """Start the thread. It calls `serve` with each version that becomes active.

        After `stopping` is set, the thread ends within a second, or once its current trial or load has ended.
        """
        self._serve = serve
        self._thread.start()

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self.stopping.is_set():
            self.turn()
            self._rest()
        self.registry.disconnect()

    def turn(self) -> None:
        """Look once. Errors are logged and not raised."""
        try:
            self.look()
        except psycopg.Error as error:
            self._complain(f"the table of models cannot be read: {str(error).strip()}")
            self.registry.disconnect()
        except OSError as error:
            self._complain(f"the folder of models cannot be read: {error}")
        except Exception:
            logger.exception("looking for models failed")
        else:
            found = self.classifier is not None
            self._complain("" if found else f"{self.models} holds no model that can be served")

    def look(self) -> None:
        """Register the new versions in the folder, then serve the active one."""
        versions = artifact.list_versions(self.models)
        if not versions:  # perhaps it is not mounted: a load would fail and be a refusal for all workers
            return
        for version in self.registry.look(versions).unknown:
            if self.stopping.is_set():
                return
            self.register(version)
        while not self.stopping.is_set():
            view = self.registry.look(versions)
            if view.active is None:
                if not view.has_usable:
                    return
                self.registry.activate_latest()
            elif self.classifier and view.active == self.classifier.version:
                self._mark(view.active, is_served=view.is_served)
                return
            elif not self.switch(view.active, view.sha256):
                return

    def register(self, version: str) -> None:
        """Add a row for a version once it is known whether the version can be served."""
        if self._is_postponed(version):
            return
        folder = self.models / version
        try:
            active = self.registry.register(version, self.loader.verify(folder).fields)
            if active is not None:
                logger.info("model registered", extra={"model": version, "active": active})
            return
        except ArtifactError as error:
            reason = str(error)
        except RecursionError:
            reason = "its card is nested too deeply"
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] not in ("22", "54"):  # bad data, too complex
                raise
            reason = f"the database refuses its card: {error.diag.message_primary}"
        except Exception:
            self._postpone(version)
            return
        if abs(time.time() - artifact.last_change(folder)) < SETTLE_SECONDS:
            return
        reason = _explain(reason)
        if self.registry.register_refused(version, reason):
            logger.warning("model refused", extra={"model": version, "error": reason})

    def switch(self, version: str, sha256: str | None) -> bool:
        """Load a version while the current one is served, then serve it. Returns whether to look again.

        A version is refused if the SHA-256 of its float32 model is not `sha256`, the registered one.
        """
        if self._is_postponed(version):
            return False
        started = time.monotonic()
        try:
            classifier = self.loader.load(self.models / version)
            if classifier.sha256 != sha256:
                raise ArtifactError("its files have changed since it was registered")
        except ArtifactError as error:
            reason = _explain(f"It can no longer be loaded: {error}")
            self.registry.refuse(version, reason)
            logger.warning("model refused", extra={"model": version, "error": reason})
            return True
        except Exception:
            self._postpone(version)
            return False
        previous = self.classifier and self.classifier.version
        self.classifier = classifier
        self._marked = None
        if self._serve:
            self._serve(classifier)
        seconds = round(time.monotonic() - started, 3)
        fields = {"model": version, "previous": previous, "seconds": seconds}
        logger.info("model loaded", extra=fields | {"device": classifier.device_name})
        return True

    def _mark(self, version: str, *, is_served: bool) -> None:
        """Record that the version is served: once after its load, and whenever the table does not say so."""
        if self._serve and (version != self._marked or not is_served):
            self.registry.mark_served(version)
            self._marked = version

    def _rest(self) -> None:
        """Wait for a notification, for at most a second."""
        try:
            self.registry.wait(TICK_SECONDS)
        except psycopg.Error:  # if it lasts, the next turn logs it
            self.registry.disconnect()
            self.stopping.wait(TICK_SECONDS)

    def _is_postponed(self, version: str) -> bool:
        return time.monotonic() < self._later.get(version, 0.0)

    def _postpone(self, version: str) -> None:
        logger.exception("the model %s could not be tried; the next try is in %.0f s", version, LATER_SECONDS)
        self._later[version] = time.monotonic() + LATER_SECONDS

    def _complain(self, complaint: str) -> None:
        """Log a complaint once, and log once when it no longer holds."""
        if complaint != self._complaint:
            serving = (
                self.classifier.version if self.classifier else "nothing; the messages wait in the queue"
            )
            level = logging.WARNING if complaint else logging.INFO
            logger.log(level, "%s; serving %s", complaint or "the problem with the models has ended", serving)
            self._complaint = complaint


def _explain(reason: str) -> str:
    """The reason as the table stores it, with a next step. Unprintable characters become question marks."""
    text = "".join(character if character.isprintable() else "?" for character in reason)
    return f"{text[:500].rstrip('.')}. {NEXT_STEP}"
