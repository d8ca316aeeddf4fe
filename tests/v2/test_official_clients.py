"""The official client, in two versions, sync and async, against a real server process."""

import os

import pytest


def test_scenario(scenario, way, request):
    if way.path is None:
        reason = f"turbopuffer {way.version} is not here: ELACSYM_TURBOPUFFER_2 names the folder with it"
        if os.environ.get("ELACSYM_REQUIRE_FEATURES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    failure = request.getfixturevalue("outcomes")[way][scenario]
    if failure is not None:
        pytest.fail(failure, pytrace=False)
