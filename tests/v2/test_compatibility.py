"""The page of features is what the tests say."""

from types import SimpleNamespace

import pytest
from v2.compatibility import PAGE, marked, named_tests, page
from v2.features import FEATURES, GROUPS
from v2.ledger import Ledger


def test_every_feature_has_an_id_of_its_own():
    rows = [row for rows in GROUPS.values() for row in rows]
    assert len(rows) == len(FEATURES) == 156


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "PYTHONPATH=tests python -m v2.compatibility writes it"


def test_every_feature_has_a_test():
    assert [feature for feature, tests in named_tests().items() if not tests] == []


def test_markers_are_read_from_the_source():
    source = """
@pytest.mark.feature("A-01", "A-02")
async def test_one(): ...

@pytest.mark.parametrize("x", [1])
@pytest.mark.feature("A-03")
def test_two(x): ...

def test_three(): ...

@pytest.mark.feature("A-04")
def helper(): ...
"""
    assert dict(marked(source)) == {"test_one": ("A-01", "A-02"), "test_two": ("A-03",)}


def run_of(ledger, *tests):
    """Tell the ledger of a run. tests: (name, ids of its marker, whether it passed)."""
    items = [
        SimpleNamespace(nodeid=name, iter_markers=lambda _, ids=ids: [pytest.mark.feature(*ids).mark])
        for name, ids, _ in tests
    ]
    ledger.pytest_collection_modifyitems(items)
    for name, _, is_passed in tests:
        ledger.pytest_runtest_logreport(SimpleNamespace(nodeid=name, when="setup", passed=True))
        ledger.pytest_runtest_logreport(SimpleNamespace(nodeid=name, when="call", passed=is_passed))
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    ledger.pytest_sessionfinish(session, pytest.ExitCode.OK)
    return session.exitstatus


def test_a_feature_that_no_test_showed_fails_the_run():
    ledger = Ledger(["A-01", "A-02", "A-03"])
    ended = run_of(ledger, ("one", ["A-01"], True), ("two", ["A-02"], False), ("three", [], True))
    assert ledger.missing == ["A-02", "A-03"]
    assert ended == pytest.ExitCode.TESTS_FAILED
    ledger = Ledger(["A-01", "A-02"])
    assert run_of(ledger, ("one", ["A-01", "A-02"], True), ("two", ["A-02"], False)) == pytest.ExitCode.OK
    assert ledger.missing == []
