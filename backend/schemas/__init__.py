"""What the API sends and takes, as documented at /docs: a module for each part, here what they share."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


class Failure(BaseModel):
    """Why a prediction or a training failed, or a file was refused, and what to do next."""

    title: str
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: Annotated[str, Field(description="What happened, and what to do next.")]
    request_id: Annotated[str, Field(description="Quote it when you ask for help.")]
