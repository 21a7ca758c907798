"""The errors of the backend, each with its HTTP status and title.

ServiceError
├── UploadError            this file cannot be classified; other files of the request can
│   ├── EmptyUpload        422  the file has no bytes
│   ├── NotAnImage         415  no supported image format, judged by content
│   ├── UnsupportedVariant 415  a supported format, but a variant of it that is not decoded
│   ├── BrokenImage        422  an image that ends early or is damaged
│   ├── TooManyPixels      413  width times height is over the limit
│   ├── TooCostly          422  decoding needs too much time or memory
│   ├── OutOfTime          429  the time limit of the request ended before this file was decoded
│   └── FileTooLarge       413  more bytes than one file may have
├── RequestTooLarge        413  more bytes than one request may have
├── NoFile                 422  no part named `file`, or not multipart at all
├── TooManyFiles           413  more files than one request may carry
├── NothingAccepted        422  all of several files were refused
├── KeyReused              422  the Idempotency-Key was used with other images
├── BadParameter           422  a query parameter, header or body that is not valid
├── UnknownPrediction      404  no prediction has this id
├── UnknownTraining        404  no training has this id
├── UnknownModel           404  no worker has found a model of this version
├── UnknownPicture         404  the model has no such picture, or its file is unusable
├── PredictionEnded        409  an ended prediction cannot be canceled
├── TrainingEnded          409  a training that has ended or is publishing cannot be canceled
├── ModelRefused           409  the model cannot be served
├── Overloaded             429  too many predictions are unfinished
├── TooManyUploads         429  too many bytes are being uploaded
├── TooManyTrainings       429  too many trainings are unfinished
├── SearchTooLong          503  a search or export of the history timed out
├── TooManySearches        503  all connections for searches or exports are in use
├── Stopping               503  the backend is stopping
└── DatabaseAway           503  the database does not answer

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
    """Base of the errors of one file."""


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
