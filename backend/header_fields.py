"""Header fields that hold a list: `Prefer` (RFC 7240), `Accept` and `Content-Encoding` (RFC 9110).

Several lines of a field mean the same as one line with commas. Names are case-insensitive, values may be
quoted, and elements without a name are ignored.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

QUOTED = r'"(?:\\.|[^"\\])*"?'
NOT_ACCEPTED = (0, 0, 0)
QUALITY = re.compile(r"[01]\.?|[01]?\.\d+")


@dataclass(frozen=True)
class Element:
    """One element of a list, such as `name=value; parameter=value`."""

    name: str
    value: str
    parameters: Mapping[str, str]


def read_list(lines: Sequence[str]) -> list[Element]:
    elements: list[Element] = []
    for text in _split(",".join(lines), ","):
        (name, value), *parameters = [_read_pair(part) for part in _split(text, ";")]
        if name:
            # Of parameters with the same name, the first counts.
            known = {key: value for key, value in reversed(parameters) if key}
            elements.append(Element(name, value, known))
    return elements


def choose_media_type(accept: Sequence[str], offered: Sequence[str]) -> str:
    """The offered media type that `Accept` prefers; the first one if there is no preference."""
    asked: dict[str, tuple[float, int]] = {}
    for place, element in enumerate(read_list(accept)):
        quality = element.parameters.get("q", "1")
        if QUALITY.fullmatch(quality):
            media_range = "*/*" if element.name == "*" else element.name  # Java clients send `*`
            asked.setdefault(media_range, (min(float(quality), 1), -place))

    def rank(media_type: str) -> tuple[float, int, int]:
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        for breadth, media_range in enumerate(ranges):
            quality, priority = asked.get(media_range, (None, 0))
            if quality is not None:
                return (quality, -breadth, priority) if quality else NOT_ACCEPTED
        return NOT_ACCEPTED

    return max(offered, key=rank)


def _split(text: str, separator: str) -> list[str]:
    """Split a text at separators outside quotes."""
    return re.findall(rf'((?:[^"{separator}]|{QUOTED})*)(?:{separator}|$)', text)


def _read_pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return name.strip().lower(), value
