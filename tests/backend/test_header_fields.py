"""Header fields that hold a list. test_prefer_wait.py tests `Prefer`."""

import pytest

from backend.header_fields import choose_media_type, read_list


def test_a_list_may_have_several_lines_and_names_in_any_case_and_quoted_values() -> None:
    lines = ['A=1; B="x, y"; c', r'd="\"; e=2", ,', "F = 3 ;b= 4;b=5"]
    read = [(element.name, element.value, dict(element.parameters)) for element in read_list(lines)]
    assert read == [("a", "1", {"b": "x, y", "c": ""}), ("d", '"; e=2', {}), ("f", "3", {"b": "4"})]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ([], "json"),
        ([""], "json"),
        (["*/*"], "json"),
        (["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], "json"),
        (["application/json, text/plain, */*"], "json"),
        (["image/png"], "json"),
        (["text/csv"], "csv"),
        (["TEXT/CSV"], "csv"),
        (["text/*"], "csv"),
        (["Text/*, */*;q=0.1"], "csv"),
        (["text/csv, */*"], "csv"),
        (["text/csv;charset=utf-8;header=present"], "csv"),
        (["text/csv;q=0"], "json"),
        (["text/csv; Q=0.0, */*"], "json"),
        (["text/csv;q=0, text/*"], "json"),
        (["application/json;q=0, */*"], "csv"),
        (["application/json;q=0.5, text/csv;q=0.4"], "json"),
        (["application/json;q=0.4, text/csv ; q=0.5"], "csv"),
        (["application/json;q=0.4", "text/csv"], "csv"),
        (["text/csv, application/json"], "csv"),
        (["application/json, text/csv"], "json"),
        (["text/csv;q=nan, text/csv;q=2"], "json"),
        (["application/*;q=.2, text/csv;q=.9"], "csv"),
        (["text/html, *; q=.2, */*; q=.2"], "json"),
        (['text/plain;note="text/csv, text/csv"'], "json"),
        (["text/csvx"], "json"),
    ],
    ids=str,
)
def test_accept_chooses_between_json_and_csv(accept: list[str], chosen: str) -> None:
    types = {"application/json": "json", "text/csv": "csv"}
    assert types[choose_media_type(accept, list(types))] == chosen
