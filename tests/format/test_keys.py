"""Object keys: injective also where file systems fold case, and parsed back."""

from hypothesis import given
from hypothesis import strategies as st

from elacsym.format import keys
from elacsym.format.keys import NamespaceKeys

NAMES = st.text("abcABC019-_.", min_size=1, max_size=128)


@given(NAMES)
def test_an_escaped_name_is_read_back(name):
    assert keys.decode_name(keys.encode_name(name)) == name
    assert keys.name_of_hint(keys.name_hint(name)) == name


@given(NAMES, NAMES)
def test_two_names_never_share_a_key_even_when_case_is_folded(a, b):
    assert a == b or keys.encode_name(a).lower() != keys.encode_name(b).lower()


@given(st.text(max_size=20))
def test_what_is_no_escaped_name_is_refused(text):
    name = keys.decode_name(text)
    assert name is None or keys.encode_name(name) == text


def test_dots_never_become_path_segments():
    for name in (".", "..", "..."):
        assert keys.is_valid_name(name)
        assert not set(NamespaceKeys(name).manifest.split("/")) & {".", ".."}


def test_bad_names_are_bad():
    for name in ("", "a/b", "ä", "a" * 129, "a\n", "a b"):
        assert not keys.is_valid_name(name)


def test_the_longest_name_fits_one_path_segment():
    assert max(len(part) for part in NamespaceKeys("A" * 128).manifest.split("/")) <= 255


@given(st.integers(0, 10**20 - 1))
def test_slots_sort_as_numbers_and_are_read_back(seq):
    space = NamespaceKeys("Docs")
    key = space.wal("0" * 16, seq)
    assert keys.seq_of_wal(key) == seq
    assert key.startswith(space.wal_prefix("0" * 16))
    assert keys.job_of_segment_file(key) is None


def test_the_job_of_a_segment_file_is_read_back():
    space = NamespaceKeys("Docs")
    key = space.segment_file("0" * 16, "job1", "rows.parquet")
    assert keys.job_of_segment_file(key) == "job1"
    assert key.startswith(space.segment_prefix("0" * 16))
    assert keys.seq_of_wal(key) is None


def test_the_keys_are_public_and_do_not_change():
    space = NamespaceKeys("My.Docs")
    assert space.manifest == "ns/" + space.manifest[3:5] + "/my!docs.9/manifest"
    assert space.wal("00ff" * 4, 7) == space.prefix + "00ff00ff00ff00ff/wal/00000000000000000007"
