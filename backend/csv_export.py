"""The history as CSV (RFC 4180) for spreadsheets: SQL with which PostgreSQL writes the lines."""

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
BYTE_ORDER_MARK = "\ufeff"  # without it Excel assumes the code page of its language
# Characters that may begin a formula: = + - @, their full-width, small, superscript and subscript forms, and
# U+2212 (minus). A formula may also follow white space, or a ; (some spreadsheets separate cells with it).
SIGNS = (
    r"=+\-@" + "\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212\u207c\u207a\u207b\u208c\u208a\u208b"
)
# White space as Python defines it. PostgreSQL's definition depends on the system and lacks U+00A0.
SPACES = r"\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
FORMULA = rf"(^|;)(?=[{SPACES}]*[{SIGNS}])|^(?=[{SPACES}])"  # an apostrophe goes after each match
SUSPECT = rf'^[{SPACES}{SIGNS}]|[;,"\r\n]'  # one cheap test for all texts that may need a change
QUOTED = r'[,"\r\n]'


def _text(column: str) -> str:
    """A text as a cell. An apostrophe keeps it from being a formula (OWASP, "CSV injection")."""
    return f"""CASE WHEN {column} ~ '{SUSPECT}' THEN (
        SELECT CASE WHEN safe ~ '{QUOTED}' THEN '"' || replace(safe, '"', '""') || '"' ELSE safe END
        FROM regexp_replace({column}, '{FORMULA}', '\\1''', 'g') AS safe) ELSE {column} END"""


def _time(column: str) -> str:
    """ISO 8601 in UTC, with microseconds if there are any, as in JSON. Infinity becomes an empty cell."""
    text = f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"')"""
    return f"replace({text}, '.000000Z', 'Z')"  # \: above is SQLAlchemy's escape for a colon


# The SQL of each cell.
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
# The SQL of one line. Null becomes an empty cell.
LINE = f"""concat({", ',', ".join(CELLS.values())}, E'\\r\\n')"""
