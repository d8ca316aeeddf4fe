"""What the flags of a command line mean, before anything is sent."""

import pytest
import typer

from elacsym.cli.files import Row
from elacsym.cli.search import all_of, filter_argument
from elacsym.cli.terminal import one_line, show_size
from elacsym.cli.transfer import BATCH_BYTES_MAX, batches


@pytest.mark.parametrize(
    ("text", "field", "op", "value"),
    [
        ("year=2024", "year", "eq", 2024),
        ("year >= 2020", "year", "gte", 2020),
        ("year<=1.5", "year", "lte", 1.5),
        ("year>1", "year", "gt", 1),
        ("year<1", "year", "lt", 1),
        ("kind!=class", "kind", "ne", "class"),
        ("title=a = b", "title", "eq", "a = b"),
        ('code="12"', "code", "eq", "12"),
        ("open=true", "open", "eq", True),
        ("gone=null", "gone", "eq", None),
        ("tags contains new york", "tags", "contains", "new york"),
    ],
)
def test_a_comparison_is_written_as_people_write_it(text, field, op, value):
    assert filter_argument(text) == {"field": field, "op": op, "value": value}


def test_a_filter_may_be_json_or_a_file(tmp_path):
    text = '{"type": "not", "condition": {"field": "a", "op": "eq", "value": 1}}'
    (tmp_path / "f.json").write_text(text)
    assert filter_argument(text) == filter_argument(f"@{tmp_path / 'f.json'}")
    assert filter_argument(text)["type"] == "not"


def test_several_filters_must_all_hold_and_one_stays_as_it_is():
    assert all_of(["a=1"]) == {"field": "a", "op": "eq", "value": 1}
    assert all_of(["a=1", "b=2"])["type"] == "and"
    assert [c["field"] for c in all_of(["a=1", "b=2"])["conditions"]] == ["a", "b"]


@pytest.mark.parametrize("text", ["year", "=3", "{not json", "@/no/such/file", ""])
def test_what_is_no_filter_is_wrong_usage(text):
    with pytest.raises(typer.BadParameter):
        filter_argument(text)


def rows(*ids, size=10):
    return [Row(n, size, {"id": i}) for n, i in enumerate(ids, 1)]


def test_batches_are_cut_by_count_and_by_bytes():
    assert [len(b) for b in batches(rows(*range(5)), 2)] == [2, 2, 1]
    assert [len(b) for b in batches(rows(*range(4), size=BATCH_BYTES_MAX // 2), 100)] == [2, 2]
    assert [len(b) for b in batches(rows(1, 2, size=2 * BATCH_BYTES_MAX), 100)] == [1, 1]
    assert list(batches([], 10)) == []


def test_an_id_that_comes_again_starts_a_batch_so_that_the_later_row_wins():
    assert [[r.number for r in b] for b in batches(rows("a", "b", "a", "a"), 100)] == [[1, 2], [3], [4]]


def test_sizes_and_values_are_shown_for_people():
    assert [show_size(n) for n in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert one_line("a\n  b\tc", 10) == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line(["a", 1], 20) == '["a",1]'
