"""The generated page of the fault tests, compared with the tests."""

import re

import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.fault_tests import PAGE, SECTIONS, TESTS, collect_ids, fault_tests_page


def test_the_page_that_lists_the_fault_tests_is_up_to_date(request: pytest.FixtureRequest) -> None:
    # A run of all tests has collected them. Only a run of some tests collects them again, or one with an old page.
    collected = sorted(request.session.items, key=lambda item: item.location[:2])
    page = PAGE.read_text()
    if page != fault_tests_page([item.nodeid.removeprefix(f"{TESTS}/") for item in collected]):
        # If this fails, run the command in the docstring of support/fault_tests.py.
        assert page == fault_tests_page(collect_ids())


def test_every_module_of_fault_tests_has_one_section_of_the_reliability_page() -> None:
    named = [test for tests in SECTIONS.values() for test in tests]
    files = {f"faults/{path.name}" for path in (PROJECT_DIRECTORY / TESTS / "faults").glob("test_*.py")}
    assert files - set(named) == {"faults/test_fault_list.py"}
    assert len(named) == len(set(named))
    text = (PROJECT_DIRECTORY / "docs" / "reliability.md").read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == list(SECTIONS)
