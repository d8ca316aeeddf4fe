"""Documents in JSON lines and Parquet."""

import datetime as dt
import io

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elacsym.cli.files import (
    Fields,
    FileError,
    JsonLinesWriter,
    ParquetWriter,
    arrow_type,
    read_json_lines,
    read_parquet,
)
from elacsym.client import Result


def lines(*values, fields=None):
    return list(read_json_lines([orjson.dumps(v) + b"\n" for v in values], fields or Fields(), "docs.jsonl"))


def parquet(tmp_path, table):
    path = tmp_path / "docs.parquet"
    pq.write_table(table, path)
    return path


def test_a_line_may_be_a_document_of_the_api_or_flat():
    api, flat = lines(
        {"id": 1, "vector": [1, 2.5], "attributes": {"title": "a", "year": None}},
        {"id": 2, "vector": [3, 4], "title": "b", "attributes": "just a field here"},
    )
    assert api.document["attributes"] == {"title": "a", "year": None}
    assert list(api.document["vector"]) == [1.0, 2.5]
    assert flat.document["attributes"] == {"title": "b", "attributes": "just a field here"}


def test_a_base64_vector_is_read_as_little_endian_float32():
    (row,) = lines({"id": 1, "vector": "AACAPwAAAMA="})
    assert row.document["vector"].tolist() == [1.0, -2.0]


def test_other_fields_may_hold_the_id_and_the_vector():
    (row,) = lines({"key": "k", "id": 7, "emb": [1]}, fields=Fields("key", "emb"))
    assert row.document["id"] == "k"
    assert row.document["attributes"] == {"id": 7}
    assert list(row.document["vector"]) == [1]


@pytest.mark.parametrize("bad", [1.5, True, [1], {"a": 1}])
def test_an_id_that_no_document_can_have_is_refused_by_its_line(bad):
    with pytest.raises(FileError, match="line 2: field 'id' is neither"):
        lines({"id": 1}, {"id": bad})


def test_a_column_of_ids_that_no_document_can_have_is_refused(tmp_path):
    for values in ([1.5], [True], [dt.date(2024, 1, 1)], [b"x"]):
        with pytest.raises(FileError, match="column 'id' has type"):
            list(read_parquet(parquet(tmp_path, pa.table({"id": values})), Fields()))


def test_blank_lines_are_passed_over_but_counted():
    rows = list(read_json_lines([b'{"id": 1}\n', b"\n", b'{"id": 2}'], Fields(), "x"))
    assert [(r.number, r.document["id"]) for r in rows] == [(1, 1), (3, 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "unexpected end of data"),
        (b"[1]", "not a JSON object"),
        (b'{"title": "x"}', "field 'id' is missing"),
        (b'{"id": 1, "vector": "###"}', "field 'vector' is no vector"),
        (b'{"id": 1, "vector": "AAA="}', "field 'vector' is no vector"),
        (b'{"id": 1, "vector": ["a"]}', "field 'vector' is no vector of numbers"),
        (b'{"id": 1, "vector": [[1, 2]]}', "field 'vector' is no vector of numbers"),
        (b'{"id": 1, "vector": [[1], [1, 2]]}', "field 'vector' is no vector"),
        (b'{"id": 1, "x": NaN}', "line 2"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_reason(line, reason):
    with pytest.raises(FileError) as caught:
        list(read_json_lines([b'{"id": 0}', line], Fields(), "docs.jsonl"))
    assert str(caught.value).startswith("docs.jsonl: line 2")
    assert reason in str(caught.value)


def test_parquet_columns_become_attributes_and_null_and_nan_are_left_out(tmp_path):
    table = pa.table({
        "id": pa.array([1, 2], pa.uint64()),
        "vector": pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)),
        "title": pa.array(["a", None]).dictionary_encode(),
        "score": pa.array([0.5, float("nan")]),
        "tags": pa.array([["x", "y"], None]),
        "day": pa.array([dt.date(2024, 2, 29), None]),
    })  # fmt: skip
    first, second = read_parquet(parquet(tmp_path, table), Fields())
    assert first.document["attributes"] == {
        "title": "a",
        "score": 0.5,
        "tags": ["x", "y"],
        "day": "2024-02-29",
    }
    assert second.document["attributes"] == {}
    assert second.document["vector"].tolist() == [3.0, 4.0]
    assert (first.number, second.number) == (1, 2)


def test_a_parquet_row_may_lack_its_vector(tmp_path):
    table = pa.table({
        "id": ["a", "b"], "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    })  # fmt: skip
    first, second = read_parquet(parquet(tmp_path, table), Fields())
    assert list(first.document["vector"]) == [1.0, 2.0]
    assert "vector" not in second.document


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.table({"key": [1]}), "there is no column 'id', only key"),
        (pa.table({"id": [1], "x": pa.array([b"b"])}), "column 'x' has type binary"),
        (pa.table({"id": [1, None]}), "row 2: column 'id' is null"),
        (pa.table({"id": [1], "vector": ["abc"]}), "row 1: field 'vector' is no vector"),
    ],
)
def test_a_parquet_file_that_cannot_be_taken_says_why(tmp_path, table, reason):
    with pytest.raises(FileError, match=reason):
        list(read_parquet(parquet(tmp_path, table), Fields()))


def test_a_file_that_is_no_parquet_is_reported(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(FileError, match=r"x\.parquet"):
        list(read_parquet(path, Fields()))


RESULTS = [
    Result(
        1,
        None,
        {"title": "a", "tags": ["x"], "n": -3, "u": 2**64 - 1, "f": 0.5, "b": True},
        np.float32([1, 2]),
    ),
    Result(2, None, {}, None),
]


def test_what_is_written_as_json_lines_reads_back_the_same():
    stream = io.BytesIO()
    writer = JsonLinesWriter(stream)
    writer.write(RESULTS)
    writer.close()
    first, second = read_json_lines(io.BytesIO(stream.getvalue()), Fields(), "x")
    assert first.document["attributes"] == RESULTS[0].attributes
    assert np.float32(first.document["vector"]).tolist() == [1.0, 2.0]
    assert second.document == {"id": 2, "attributes": {}}


def test_what_is_written_as_parquet_reads_back_the_same(tmp_path):
    path = tmp_path / "out.parquet"
    types = {"title": "string", "tags": "array<string>", "n": "integer", "u": "unsigned", "f": "float"}
    types["b"] = "boolean"
    writer = ParquetWriter(path, types, 2)
    writer.write(RESULTS)
    writer.write([])
    writer.close()
    first, second = read_parquet(path, Fields())
    assert first.document["attributes"] == RESULTS[0].attributes
    assert list(first.document["vector"]) == [1.0, 2.0]
    assert second.document == {"id": 2, "attributes": {}}
    assert pq.read_schema(path).field("id").type == pa.uint64()


def test_an_export_of_nothing_is_a_parquet_file_of_no_rows(tmp_path):
    path = tmp_path / "out.parquet"
    ParquetWriter(path, {"title": "string"}, None).close()
    assert list(read_parquet(path, Fields())) == []
    assert pq.read_schema(path).names == ["id", "title"]


def test_a_type_that_parquet_cannot_take_is_named():
    with pytest.raises(FileError, match="'decimal'"):
        arrow_type("decimal")


def test_what_json_shows_as_text_is_written_as_text():
    assert arrow_type("datetime") == arrow_type("bytes") == pa.string()
    assert arrow_type("[]uuid") == pa.list_(pa.string())
    assert arrow_type("[][3]f32") == pa.list_(pa.list_(pa.float32(), 3))
    for kind in ("{}f16", "[]unknown"):
        with pytest.raises(FileError, match="cannot be written to Parquet"):
            arrow_type(kind)


@pytest.mark.parametrize("kind", ["f32", "f16", "i8"])
def test_vectors_are_written_as_the_32_bit_floats_that_answers_give(kind):
    assert arrow_type(f"[3]{kind}") == pa.list_(pa.float32(), 3)
