"""The long-lived objects of one backend. `main.py` builds them, the routes use them."""

from dataclasses import dataclass

from fastapi import Request

from backend.broker import Broker
from backend.decoders import Decoders
from backend.event_log import EventLog
from backend.events import Changes
from backend.health import Checks
from backend.history import History
from backend.metrics import Metrics
from backend.models import Models
from backend.predictions import Predictions
from backend.relay import Relay
from backend.submissions import Submissions
from backend.trainings import Trainings
from backend.uploads import UploadReader


@dataclass(frozen=True)
class Services:
    """Everything that a route may need."""

    history: History
    predictions: Predictions
    submissions: Submissions
    trainings: Trainings
    event_log: EventLog
    models: Models
    broker: Broker
    relay: Relay
    changes: Changes
    checks: Checks
    metrics: Metrics
    decoders: Decoders
    uploads: UploadReader


def services(request: Request) -> Services:
    """A call and not a FastAPI dependency, which would take 7% of the backend's CPU time for an upload."""
    return request.app.state.services
