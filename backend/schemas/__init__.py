"""Request and response types, a module for each part of the API. This module holds the shared types."""

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


class Failure(BaseModel):
    """Why a prediction or a training failed, or a file was refused."""

    title: str
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str = Field(description="What happened, and what to do next.")
    request_id: str = Field(description="The log has the same id.")


class QueryParameters(BaseModel):
    """Base of the parameters of a query. An empty value, as in `?label=`, is read as no value."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value != ""}
