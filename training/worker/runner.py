"""One attempt of a run, from its claim to its outcome. A child process trains; the worker updates the row."""

import logging
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery_worker.errors import Stopped
from training.worker.child import Child
from training.worker.run import MAX_ATTEMPTS, Lost, Run, TrainingFailed

if TYPE_CHECKING:  # tests/gpu imports this module without psycopg and pydantic-settings
    from training.worker.runs import Runs
    from training.worker.settings import Settings

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5  # the longest time between two checks whether the run was canceled
NO_WORKER_SECONDS = 10.0  # the longest wait until an inference worker registers the model: perhaps none runs
SERVE_SECONDS = 30.0  # the longest wait until an inference worker serves it; then the run succeeds anyway
PARTIAL_SECONDS = 3600.0  # unpublished folders older than this were left by killed processes
END_SECONDS = 3.0  # for the child to end after it has published

STOPPED_TOO_OFTEN = (
    f"The worker stopped {MAX_ATTEMPTS} times during this training. Start another training. "
    "If the worker stops again, look at its log."
)
SKIPPED = "skipped: ended, deleted, or claimed by another worker"
LOST = "lost: canceled, deleted, or claimed again"
HANDED_BACK = "handed back: the worker shuts down"


class Runner:
    """Runs one training at a time with `command`, to which a run's options are added."""

    def __init__(
        self, settings: "Settings", runs: "Runs", command: Sequence[str], stopping: threading.Event
    ) -> None:
        self.settings = settings
        self.checkpoints = settings.models_path / ".runs"
        self.runs = runs
        self.command = command
        self.stopping = stopping

    def run(self, id: UUID) -> str:
        """Claim the run and run it; returns the outcome in words. Raises TrainingFailed."""
        try:
            run = self.runs.claim(id)
            if run is None:
                logger.info(SKIPPED, extra={"training_id": str(id)})
                return SKIPPED
            try:
                return self._run_attempt(run)
            finally:
                with suppress(Stopped):
                    self._sweep()
        except Stopped:  # the database is unreachable; the relay will find the row if it is unfinished
            return HANDED_BACK

    def _run_attempt(self, run: Run) -> str:
        """Run one attempt, and store and return its outcome. Raises TrainingFailed, Stopped."""
        fields: dict[str, Any] = {"training_id": str(run.id), "attempt": run.attempt}
        started = time.monotonic()
        try:
            if run.attempt > MAX_ATTEMPTS:
                raise TrainingFailed(f"Failed after {MAX_ATTEMPTS} attempts", STOPPED_TOO_OFTEN)
            logger.info("training started", extra=fields | {"recipe": run.recipe, "data": run.data})
            version = self._train(run)
            self.runs.succeed(run, version)
            outcome = f"published {version}"
        except TrainingFailed as failure:
            with suppress(Lost):
                self.runs.fail(run, failure.title, str(failure))
            logger.warning("training failed", extra=fields | {"error": failure.title, "detail": str(failure)})
            raise
        except Lost:
            outcome = LOST
        except Stopped:
            with suppress(Lost):
                self.runs.hand_back(run)
            outcome = HANDED_BACK
        seconds = round(time.monotonic() - started, 1)
        logger.info("training ended", extra=fields | {"outcome": outcome, "seconds": seconds})
        return outcome

    def _train(self, run: Run) -> str:
        """Train, publish and wait until the version is served; returns the version.

        Raises TrainingFailed, Lost, Stopped.
        """
        try:
            with Child(self._build_command(run), run.id) as child:
                version = self._follow(run, child)
                child.wait(END_SECONDS)
        except (TrainingFailed, Lost, Stopped):
            raise
        except Exception as error:
            logger.exception("the worker cannot follow a run", extra={"training_id": str(run.id)})
            detail = f"The worker cannot follow the training process: {error!r}."
            raise TrainingFailed("Training crashed", detail) from error
        with suppress(Stopped):  # the model is published, so the run need not be handed back
            self._wait_until_served(run, version)
        return version

    def _build_command(self, run: Run) -> list[str]:
        """The child's command line. Raises TrainingFailed if the data set does not exist."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        options = {
            "--recipe": run.recipe,
            "--seed": run.seed,
            "--epochs": run.epochs,
            "--data": self._find_data(run.data),
            "--models": self.settings.models_path,
            "--cache": self.settings.cache_path,
            "--activation": run.activation,
            "--checkpoint": self.checkpoints / f"{run.id}.checkpoint",
            "--report": "json",
        }
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        return [*self.command, *given]

    def _find_data(self, name: str | None) -> Path | None:
        if name is None:
            return None
        folder = self.settings.data_sets
        found = sorted(path.name for path in folder.glob("[!.]*") if path.name.isprintable())
        if name in found:
            return folder / name
        raise TrainingFailed(
            "Data set not found",
            f"There is no {name!r} in the training worker's folder of data sets (its setting DATA_SETS), "
            f"which holds {', '.join(found) or 'nothing'}. Put a folder or archive with train/ and test/ "
            "there, or name no data set to train on CIFAR-10.",
        )

    def _follow(self, run: Run, child: Child) -> str:
        """Store the child's reports; returns the version that the child has published."""
        while True:
            message = child.read(CHECK_SECONDS)
            if message is None or "published" not in message:  # no check after the publication
                self._check(run)
            match message:
                case None:
                    pass
                case {"published": str(version)}:
                    return version
                case {"error": {"title": str(title), "detail": str(detail)}}:
                    raise TrainingFailed(title, detail)
                case {"epoch": dict(epoch)}:
                    self.runs.add_epoch(run, epoch)
                case {"phase": str(phase)}:
                    self.runs.store_report(run, phase=phase)
                    if phase == "publishing":  # from now on the backend refuses to cancel the run
                        child.allow()
                case {"note": str(note)}:
                    logger.info("note: %s", note, extra={"training_id": str(run.id)})
                case {"epochs": int(epochs), "device": str(device)}:
                    self.runs.store_report(run, epochs, device)
                case _:
                    logger.warning("unknown report: %.200r", message, extra={"training_id": str(run.id)})

    def _check(self, run: Run) -> None:
        """Check that the attempt may go on. Raises Stopped, Lost."""
        if self.stopping.is_set():
            raise Stopped
        self.runs.check(run)

    def _wait_until_served(self, run: Run, version: str) -> None:
        """Wait until an inference worker registers this model and, if it is active, serves it.

        Waits SERVE_SECONDS at most. Raises TrainingFailed if the model is refused, and what `_check` raises.
        """
        started = time.monotonic()
        self.runs.announce()
        while True:
            self._check(run)
            model, waited = self.runs.find_model(version), time.monotonic() - started
            if model is not None and model.error is not None:
                raise TrainingFailed("Model refused", model.error)
            if model is not None and not model.awaited:
                return
            if waited > (NO_WORKER_SECONDS if model is None else SERVE_SECONDS):
                fields = {"training_id": str(run.id), "model": version}
                logger.warning("published, but no inference worker serves it", extra=fields)
                return
            self.stopping.wait(0.1)

    def _sweep(self) -> None:
        """Remove the checkpoints of ended runs, and unpublished folders of killed processes."""
        for folder in self.settings.models_path.glob(".partial-*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > PARTIAL_SECONDS:
                    shutil.rmtree(folder)
        # `make train` keeps checkpoints here, too. Only those of a worker have names that begin with a UUID.
        checkpoints = list(self.checkpoints.glob("*-*-*-*-*.checkpoint*"))
        # The rows are read last, so that a new run keeps its checkpoint.
        unfinished = {str(id) for id in self.runs.unfinished()}
        for path in checkpoints:
            if path.name.split(".")[0] not in unfinished:
                path.unlink(missing_ok=True)
