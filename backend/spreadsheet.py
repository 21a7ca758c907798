"""The history as CSV (RFC 4180), for spreadsheets. PostgreSQL writes the lines."""

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
BYTE_ORDER_MARK = "\ufeff"  # without it Excel takes the text for the code page of its language
# What may begin a formula: one of = + - @, in full width, small, raised, lowered, or the minus U+2212, which
# some spreadsheets read as the same. White space may stand before it, or the ; that separates cells for some.
SIGNS = (
    r"=+\-@" + "\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212\u207c\u207a\u207b\u208c\u208a\u208b"
)
# Python's idea of white space; PostgreSQL's own depends on the system, and has no U+00A0.
SPACES = r"\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
FORMULA = rf"(^|;)(?=[{SPACES}]*[{SIGNS}])|^(?=[{SPACES}])"
SUSPECT = rf'^[{SPACES}{SIGNS}]|[;,"\r\n]'  # all that may need a change, found by one cheap look
QUOTED = r'[,"\r\n]'


def _text(column: str) -> str:
    """A text that anyone may have chosen, such as a file's name, becomes no formula (OWASP, "CSV injection").
    A cell in quotes has them doubled."""
    return f"""CASE WHEN {column} ~ '{SUSPECT}' THEN (
        SELECT CASE WHEN safe ~ '{QUOTED}' THEN '"' || replace(safe, '"', '""') || '"' ELSE safe END
        FROM regexp_replace({column}, '{FORMULA}', '\\1''', 'g') AS safe) ELSE {column} END"""


def _time(column: str) -> str:
    """ISO 8601 in UTC, as JSON has it: with microseconds if there are any. Infinity is empty."""
    text = f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"')"""
    return f"replace({text}, '.000000Z', 'Z')"


# Of each cell the SQL.
CELLS = {
    "id": "id",
    "filename": _text("filename"),
    "status": "status",
    "prediction": _text("prediction"),
    "confidence": "CASE confidence WHEN 0 THEN '0.0' WHEN 1 THEN '1.0' ELSE CAST(confidence AS text) END",
    "unfamiliar": "CASE WHEN unfamiliar THEN 'True' WHEN NOT unfamiliar THEN 'False' END",
    "feedback": _text("feedback"),
    "model": _text("model"),
    "error": _text("error_title"),
    "timestamp": _time('"timestamp"'),
    "started_at": _time("started_at"),
    "completed_at": _time("completed_at"),
}
HEAD = f"{BYTE_ORDER_MARK}{','.join(CELLS)}\r\n".encode()
# A row as a line of the file; what is null is an empty cell.
LINE = f"""concat({", ',', ".join(CELLS.values())}, E'\\r\\n')"""
