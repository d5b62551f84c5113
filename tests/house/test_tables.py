"""The tables in the documentation say what the code says."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["costs.md", "sizing.md"])
def test_a_pages_tables_are_those_of_the_code(tables, page):
    said = (DOCS / page).read_text(encoding="utf-8")
    assert tables.filled(said) == said, "make them again: python docs/tables.py"


def test_every_table_stands_on_a_page(tables):
    pages = "".join((DOCS / page).read_text(encoding="utf-8") for page in tables.PAGES)
    assert all(f"<!-- table: {name} -->" in pages for name in tables.TABLES)


def test_a_figure_that_was_edited_by_hand_is_noticed(tables):
    said = (DOCS / "sizing.md").read_text(encoding="utf-8")
    wrong = said.replace("| context | 0.500 |", "| context | 0.400 |")
    assert wrong != said
    assert tables.filled(wrong) == said
