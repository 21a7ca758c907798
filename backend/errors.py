"""The errors of the backend, and the answer for each.

Exception
├── ServiceError      a request is refused; its `Refusal` has the status and the title of the answer
│   ├── FileRefused   one file of a request is refused; the other files can be accepted
│   └── DatabaseAway  the database does not answer, or all connections are in use
└── Unavailable       another part of the system cannot be used

An error has a class of its own only if code treats it differently. Docstrings name the others by their
refusal, as in "Raises KEY_REUSED".
"""

from enum import Enum
from typing import Any


class Refusal(Enum):
    """Why a request or a file is refused: HTTP status, title, and the seconds of `Retry-After`, if any."""

    # Of one file.
    EMPTY_FILE = 422, "Empty file"
    NOT_AN_IMAGE = 415, "Not a supported image"  # judged by content
    UNSUPPORTED_VARIANT = 415, "Image variant not supported"
    DAMAGED_IMAGE = 422, "Damaged image"  # or the file ends early
    TOO_MANY_PIXELS = 413, "Image has too many pixels"
    TOO_COSTLY = 422, "Image needs too much time or memory to decode"
    NOT_IN_TIME = 429, "Not decoded in time", 10  # the time limit of the request ended
    FILE_TOO_LARGE = 413, "File too large"

    # Of the request.
    REQUEST_TOO_LARGE = 413, "Request too large"
    NO_FILE = 422, "No file in the request"  # no part named `file`, or no readable multipart body
    TOO_MANY_FILES = 413, "Too many files"
    NOTHING_ACCEPTED = 422, "No file could be accepted"  # all of several files were refused
    KEY_REUSED = 422, "Idempotency key already used"  # with other images
    BAD_PARAMETER = 422, "Bad parameter"  # in the path, the query, a header or the body
    UNKNOWN_PREDICTION = 404, "Unknown prediction"
    UNKNOWN_TRAINING = 404, "Unknown training"
    UNKNOWN_MODEL = 404, "Unknown model"  # no worker has found this version
    UNKNOWN_PICTURE = 404, "Unknown picture"  # or its file is unusable
    PREDICTION_ENDED = 409, "The prediction has ended"  # and cannot be canceled
    TRAINING_ENDED = 409, "The training has ended"  # and cannot be canceled
    TRAINING_PUBLISHING = 409, "The training is publishing its model"  # and cannot be canceled
    MODEL_REFUSED = 409, "The model cannot be served"
    TOO_MANY_PREDICTIONS = 429, "Too many predictions are waiting", 2
    TOO_MANY_UPLOADS = 429, "Too many uploads at once", 2  # too many bytes are being uploaded
    TOO_MANY_TRAININGS = 429, "Too many trainings are waiting", 60
    SEARCH_TOO_LONG = 503, "The search takes too long", 5
    TOO_MANY_SEARCHES = 503, "Too many searches at once", 5
    STOPPING = 503, "The backend is stopping", 2
    DATABASE_AWAY = 503, "Database unavailable", 5

    def __init__(self, status: int, title: str, retry_after: int | None = None) -> None:
        self.status = status
        self.title = title
        self.retry_after = retry_after


class ServiceError(Exception):
    """A request is refused. `detail` says what happened and what to do next. `members` extend the answer."""

    def __init__(self, refusal: Refusal, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.refusal = refusal
        self.detail = detail
        self.members = members


class FileRefused(ServiceError):
    """One file of a request is refused."""


class DatabaseAway(ServiceError):
    """The database does not answer, or no connection was free in time."""

    def __init__(self, detail: str) -> None:
        super().__init__(Refusal.DATABASE_AWAY, detail)


class Unavailable(Exception):
    """A part of the system, such as the broker, cannot be used. The text says why, for people."""


RETRY_SECONDS = 1.0
"""The time between two tries to reach a part that is unavailable."""
