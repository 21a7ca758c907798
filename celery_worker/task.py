"""The base class of the services' Celery tasks. A task decides when and in which thread its requests run."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.exceptions import InvalidTaskError
from celery.worker import strategy
from celery.worker.request import Request


class WorkerTask(Task):
    """A task that receives its requests directly. Celery does not pass them to its pool."""

    abstract = True
    Strategy = "celery_worker.task:build_strategy"
    ignore_result = True
    consumer: Any = None
    """Celery's consumer on the current connection, with its loop (`hub`) and its threads (`pool`)."""

    def connect(self, consumer: Any) -> None:
        """Start again on a new connection. The broker redelivers unacknowledged messages."""
        self.consumer = consumer

    @abstractmethod
    def check(self, arguments: list[Any]) -> None:
        """Raises InvalidTaskError if a message with these arguments is malformed."""

    @abstractmethod
    def take(self, request: Request) -> None:
        """Receive a request. Called in the loop's thread."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Fields for the worker's heartbeats, which the health report shows."""


def fail(request: Request, error: Exception) -> None:
    """Report the error of a failed request to Flower. Acknowledges the request if that was not done yet."""
    try:
        raise error
    except Exception:
        info: Any = ExceptionInfo()
    info.exception = error  # as Celery's tracer does; otherwise Flower would show a wrapper's name
    request.on_failure(info)


def build_strategy(task: WorkerTask, app: Celery, consumer: Any) -> Callable[..., Any]:
    """Celery's default strategy, with a check of each message first. Called for each new connection."""
    task.connect(consumer)
    handle = strategy.default(task, app, consumer)

    def check_and_handle(message: Any, *args: Any) -> Any:
        task.check(_read_arguments(message))
        return handle(message, *args)

    return check_and_handle


def _read_arguments(message: Any) -> list[Any]:
    """The task's arguments. Raises InvalidTaskError if the message is not a task message."""
    try:
        arguments, options, embed = message.payload
    except (TypeError, ValueError) as error:
        raise InvalidTaskError(f"the body is not [args, kwargs, embed]: {error}") from error
    types = (arguments, list), (options, dict), (embed, dict), (message.headers.get("id"), str)
    if not all(isinstance(value, type) for value, type in types):
        raise InvalidTaskError("the body or the header id has the wrong type")
    return arguments
