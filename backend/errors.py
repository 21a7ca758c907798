"""The errors of the backend, each with its HTTP status and title.

`title` is fixed for a class. `detail` says what happened and what to do next.
"""

from typing import Any, ClassVar


class ServiceError(Exception):
    """Base of all errors. `members` are added to the answer."""

    status: ClassVar[int]
    title: ClassVar[str]
    retry_after: ClassVar[int | None] = None  # seconds

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members


class Unavailable(Exception):
    """A part of the system, such as the broker, did not answer in time. The text says why, for people."""


class UploadError(ServiceError):
    """Base of the errors of one file. Other files of the request can be accepted."""


class EmptyUpload(UploadError):
    status, title = 422, "Empty file"


class NotAnImage(UploadError):
    status, title = 415, "Not a supported image"


class UnsupportedVariant(UploadError):
    status, title = 415, "Image variant not supported"


class BrokenImage(UploadError):
    status, title = 422, "Damaged image"


class TooManyPixels(UploadError):
    status, title = 413, "Image has too many pixels"


class TooCostly(UploadError):
    status, title = 422, "Image needs too much time or memory to decode"


class OutOfTime(UploadError):
    status, title, retry_after = 429, "Not decoded in time", 10


class FileTooLarge(UploadError):
    status, title = 413, "File too large"


class RequestTooLarge(ServiceError):
    status, title = 413, "Request too large"


class NoFile(ServiceError):
    status, title = 422, "No file in the request"


class TooManyFiles(ServiceError):
    status, title = 413, "Too many files"


class NothingAccepted(ServiceError):
    status, title = 422, "No file could be accepted"


class KeyReused(ServiceError):
    status, title = 422, "Idempotency key already used"


class BadParameter(ServiceError):
    status, title = 422, "Bad parameter"


class UnknownPrediction(ServiceError):
    status, title = 404, "Unknown prediction"


class UnknownTraining(ServiceError):
    status, title = 404, "Unknown training"


class UnknownModel(ServiceError):
    status, title = 404, "Unknown model"


class UnknownPicture(ServiceError):
    status, title = 404, "Unknown picture"


class PredictionEnded(ServiceError):
    status, title = 409, "The prediction has ended"


class TrainingEnded(ServiceError):
    status, title = 409, "The training has ended"


class ModelRefused(ServiceError):
    status, title = 409, "The model cannot be served"


class Overloaded(ServiceError):
    status, title, retry_after = 429, "Too many predictions are waiting", 2


class TooManyUploads(ServiceError):
    status, title, retry_after = 429, "Too many uploads at once", 2


class TooManyTrainings(ServiceError):
    status, title, retry_after = 429, "Too many trainings are waiting", 60


class SearchTooLong(ServiceError):
    status, title, retry_after = 503, "The search takes too long", 5


class TooManySearches(ServiceError):
    status, title, retry_after = 503, "Too many searches at once", 5


class Stopping(ServiceError):
    status, title, retry_after = 503, "The backend is stopping", 2


class DatabaseAway(ServiceError):
    status, title, retry_after = 503, "Database unavailable", 5
