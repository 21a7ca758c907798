"""One training run, from its claim to its outcome: the row is kept true while a child process trains."""

import logging
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from training.child import Child
from training.errors import Lost, Stopped, TrainingFailed
from training.runs import Database, Run
from training.settings import Settings

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5  # a canceled run ends within a second: this, and the child's own end
SEEN_SECONDS = 5.0
NO_WORKER_SECONDS = 10.0  # no inference worker has found the model for so long: none is there
SERVE_SECONDS = 30.0
PARTIAL_SECONDS = 3600.0  # publishing takes a moment
END_SECONDS = 3.0  # for the child to end by itself once it has published

SKIPPED = "skipped: terminal, deleted, or another worker's"
LOST = "lost: canceled, deleted, or claimed again"
HANDED_BACK = "handed back: the worker was told to stop"


class Runner:
    """Runs one training at a time with `command`, to which a run's options are added."""

    def __init__(
        self, settings: Settings, database: Database, command: Sequence[str], stopping: threading.Event
    ) -> None:
        self.models = settings.models_path
        self.checkpoints = settings.models_path / ".runs"
        self.data_sets = settings.data_sets
        self.cache = settings.cache_path
        self.database = database
        self.command = command
        self.stopping = stopping

    def run(self, id: UUID) -> str:
        """Run it, if it is to be run; returns what became of it. Raises TrainingFailed."""
        try:
            run = self.database.claim(id)
            if run is None:
                logger.info(SKIPPED, extra={"training_id": str(id)})
                return SKIPPED
            try:
                return self._finish(run)
            finally:
                self._sweep()
        except Stopped:  # before the claim, or with the database away: the row is as it was, or goes stale
            return HANDED_BACK

    def _finish(self, run: Run) -> str:
        """Write the outcome of one attempt and return it. Raises TrainingFailed, Stopped."""
        fields: dict[str, Any] = {"training_id": str(run.id), "attempt": run.attempt}
        started = time.monotonic()
        try:
            if run.error_title is not None:
                raise TrainingFailed(run.error_title, run.error_detail or "")
            logger.info("training started", extra=fields | {"recipe": run.recipe, "data": run.data})
            version = self._attempt(run)
            self.database.succeed(run, version)
            outcome = f"published {version}"
        except TrainingFailed as failure:
            if run.error_title is None:
                with suppress(Lost):
                    self.database.fail(run, failure.title, str(failure))
            logger.warning("training failed", extra=fields | {"error": failure.title, "detail": str(failure)})
            raise
        except Lost:
            outcome = LOST
        except Stopped:
            with suppress(Lost):
                self.database.hand_back(run)
            outcome = HANDED_BACK
        seconds = round(time.monotonic() - started, 1)
        logger.info("training ended", extra=fields | {"outcome": outcome, "seconds": seconds})
        return outcome

    def _attempt(self, run: Run) -> str:
        """Train and publish; returns the version, once it is served. Raises any TrainingError."""
        watch = _Watch(run, self.database, self.stopping)
        try:
            with Child(self._build_command(run), run.id) as child:
                version = self._follow(run, child, watch)
                child.wait(END_SECONDS)
        except (TrainingFailed, Lost, Stopped):
            raise
        except Exception as error:
            logger.exception("a run could not be followed", extra={"training_id": str(run.id)})
            raise TrainingFailed("Training crashed", f"The worker could not follow it: {error!r}.") from error
        with suppress(Stopped):  # it is published; a worker that stops need not wait
            self._wait_until_served(version, watch)
        return version

    def _build_command(self, run: Run) -> list[str]:
        """The child's command line. Raises TrainingFailed for a data set that is not there."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        options = {
            "--recipe": run.recipe,
            "--seed": run.seed,
            "--epochs": run.epochs,
            "--data": self._find_data(run.data),
            "--models": self.models,
            "--cache": self.cache,
            "--activation": run.activation,
            "--checkpoint": self.checkpoints / f"{run.id}.checkpoint",
            "--report": "json",
        }
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        return [*self.command, *given]

    def _find_data(self, name: str | None) -> Path | None:
        if name is None:
            return None
        there = sorted(path.name for path in self.data_sets.glob("[!.]*") if path.name.isprintable())
        if name in there:
            return self.data_sets / name
        raise TrainingFailed(
            "Data set not found",
            f"There is no {name!r} in the training worker's folder of data sets (its setting DATA_SETS), "
            f"which holds {', '.join(there) or 'nothing'}. Put a folder or archive with train/ and test/ "
            "there, or leave the data set out to train on CIFAR-10.",
        )

    def _follow(self, run: Run, child: Child, watch: "_Watch") -> str:
        """Keep what the child says; returns the version that it has published."""
        while True:
            message = child.read(CHECK_SECONDS)
            if message is None or "published" not in message:  # else it is done, whatever the worker is told
                watch.check()
            match message:
                case None:
                    pass
                case {"published": str(version)}:
                    return version
                case {"epoch": dict(epoch)}:
                    self.database.add_epoch(run, epoch)
                case {"phase": str(phase)}:
                    self.database.describe(run, phase=phase)
                    if phase == "publishing":  # the row is still this attempt's, and can't be canceled now
                        child.allow()
                case {"note": str(note)}:
                    logger.info("it notes: %s", note, extra={"training_id": str(run.id)})
                case {"epochs": int(epochs), "device": str(device)}:
                    self.database.describe(run, epochs, device)
                case _:
                    logger.warning("an unknown report: %.200r", message, extra={"training_id": str(run.id)})

    def _wait_until_served(self, version: str, watch: "_Watch") -> None:
        """Wait until the next prediction is answered by this model, if it is to be served at all.

        Raises TrainingFailed when the inference workers refuse it.
        """
        started = time.monotonic()
        self.database.announce()
        while True:
            watch.check()
            model, waited = self.database.find_model(version), time.monotonic() - started
            if model is not None and model.error is not None:
                raise TrainingFailed("Model refused", model.error)
            if model is not None and not model.awaited:
                return
            if waited > (NO_WORKER_SECONDS if model is None else SERVE_SECONDS):
                logger.warning("published, but no inference worker serves it", extra={"model": version})
                return
            self.stopping.wait(0.1)

    def _sweep(self) -> None:
        """Remove the checkpoints of runs that are at their end, however they came to it, and what processes
        that were killed had not published yet."""
        for folder in self.models.glob(".partial-*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > PARTIAL_SECONDS:
                    shutil.rmtree(folder)
        kept: dict[UUID, list[Path]] = {}
        for path in self.checkpoints.glob("*.checkpoint*"):
            with suppress(ValueError):
                kept.setdefault(UUID(path.name.split(".")[0]), []).append(path)
        if not kept:
            return
        unfinished = self.database.unfinished(kept)
        for id in kept.keys() - unfinished:
            for path in kept[id]:
                path.unlink(missing_ok=True)


class _Watch:
    """Whether an attempt is to go on; says now and then that its worker lives."""

    def __init__(self, run: Run, database: Database, stopping: threading.Event) -> None:
        self._run = run
        self._database = database
        self._stopping = stopping
        self._check_at = 0.0
        self._seen_at = time.monotonic() + SEEN_SECONDS  # the claim has said so

    def check(self) -> None:
        """Raises Stopped, Lost."""
        if self._stopping.is_set():
            raise Stopped
        now = time.monotonic()
        if now >= self._seen_at:
            self._database.seen(self._run)
            self._seen_at = now + SEEN_SECONDS
        elif now >= self._check_at:
            self._database.look(self._run)
        else:
            return
        self._check_at = now + CHECK_SECONDS
