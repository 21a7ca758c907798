"""If a document links to a file, or names a file with its folder, the file exists."""

import re
from pathlib import Path

import pytest

from scripts.local.config import REPOSITORY

DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    REPOSITORY / "training/LOG.md",
]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
PLACE = re.compile(
    r"`((?:backend|celery_worker|inference|training|images|ui|docs|scripts|proxy|broker|tests|observability)/[\w./-]+"
    r"|schema\.sql|compose(?:\.gpu)?\.yaml|pyproject\.toml|uv\.lock|[A-Z]+\.md|Makefile)`"
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_linked_files_and_files_named_with_their_folder_exist(document: Path) -> None:
    text = document.read_text()
    missing = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    missing += [place for place in PLACE.findall(text) if not (REPOSITORY / place).exists()]
    assert missing == []
