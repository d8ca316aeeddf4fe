"""Logs: what a line looks like, and where it goes."""

import orjson

from elacsym.telemetry import configure_events, get_logger


def test_lines_for_people_have_no_colours_in_a_file(capsys):
    configure_events(level="info", as_json=False)
    get_logger("t").info("folded", rows=3)
    line = capsys.readouterr().err
    assert "folded" in line
    assert "rows=3" in line
    assert "\x1b" not in line


def test_lines_are_json_where_nobody_looks_on(capsys):
    configure_events(level="info")
    get_logger("t").info("folded", rows=3)
    get_logger("t").debug("not at this level")
    (line,) = capsys.readouterr().err.splitlines()
    assert orjson.loads(line) | {"timestamp": ""} == {
        "event": "folded",
        "rows": 3,
        "level": "info",
        "timestamp": "",
    }
