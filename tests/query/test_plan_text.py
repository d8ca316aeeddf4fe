"""Explanations as text."""

from __future__ import annotations

from elacsym.query.plan_text import plan_text


def test_a_plan_is_a_fact_a_line():
    plan = {
        "kind": "vector",
        "rows": {"live": 3, "matched": 2},
        "legs": [{"leg": "vector:vector", "parts": [{"part": "memtable", "way": "scan"}]}],
        "filter": {"remembered": False},
        "weights": [],
        "terms": ["copper", "kettle"],
        "bytes_read": 0,
    }
    assert plan_text(plan).splitlines() == [
        "kind: vector",
        "rows:",
        "  live: 3",
        "  matched: 2",
        "legs 1:",
        "  leg: vector:vector",
        "  parts 1:",
        "    part: memtable",
        "    way: scan",
        "filter:",
        "  remembered: no",
        "weights: none",
        "terms: copper, kettle",
        "bytes read: 0",
    ]
