from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from elacsym.store.cache_tiers import CacheFolder, SegmentedLru, blocks_name
from elacsym.store.residents import Use


class Files:
    """Files of one size that come and are used as time goes on."""

    def __init__(self, bytes_max: int) -> None:
        self.lru, self.now_s, self.uses = SegmentedLru(bytes_max), 0.0, {}
        self.there: set[str] = set()

    def query(self, name: str, size_bytes: int = 10) -> bool:
        """A query an age after the last one: whether the file was there."""
        self.now_s += 10
        was_there = name in self.there
        if not was_there:
            self.uses[name] = Use(self.now_s)
        self.uses[name].used_s = self.now_s
        if not was_there:
            self.there.add(name)
            self.there -= set(self.lru.resize(name, size_bytes, self.uses[name]))
        return was_there


def test_a_file_used_by_a_later_query_survives_a_scan():
    files = Files(100)
    files.query("hot")
    files.query("hot")
    for number in range(50):
        files.query(f"scanned{number}")
    assert files.query("hot")


def test_looking_twice_in_the_query_that_brought_a_file_protects_nothing():
    files = Files(100)
    files.query("scanned")
    files.uses["scanned"].used_s += 0.5
    for number in range(50):
        files.query(f"other{number}")
    assert not files.query("scanned")


def test_what_is_used_no_more_loses_its_protection():
    files = Files(100)
    for _ in range(2):
        for number in range(8):
            files.query(f"old{number}")
    for _ in range(4):
        for number in range(8):
            files.query(f"young{number}")
    assert all(files.query(f"young{number}") for number in range(8))


def test_large_files_that_come_back_again_and_again_get_a_place_at_last():
    files = Files(100)
    for _ in range(2):
        for number in range(8):
            files.query(f"old{number}")
    for _ in range(3):
        files.query("large", 60)
    assert files.query("large", 60)


def test_a_file_above_the_budget_goes_at_once_and_alone():
    files = Files(100)
    files.query("small")
    assert files.lru.resize("large", 101, Use()) == ["large"]
    assert files.query("small")


def test_a_file_that_grows_stays_and_others_go():
    lru = SegmentedLru(100)
    for name in "abc":
        lru.resize(name, 30, Use())
    assert lru.resize("a", 50, Use()) == ["b"]
    assert lru.bytes == 80


steps = st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 70), st.booleans(), st.integers(0, 3))


@given(st.lists(steps, max_size=60))
def test_the_budget_holds_and_sizes_add_up_whatever_happens(history):
    lru, sizes, uses, now_s = SegmentedLru(100), {}, {}, 0.0
    for name, size, is_drop, age in history:
        now_s += age
        if is_drop:
            entry = lru.pop(name)
            assert (entry is None) == (name not in sizes)
            sizes.pop(name, None)
            continue
        if name not in sizes:
            uses[name] = Use(now_s)
        uses[name].used_s = now_s
        before = sum(sizes.values()) - sizes.get(name, 0) + size
        sizes[name] = size
        gone = lru.resize(name, size, uses[name])
        assert len(set(gone)) == len(gone)
        assert bool(gone) == (before > 100)
        for other in gone:
            del sizes[other]
        assert lru.bytes == sum(sizes.values()) <= 100
        assert len(lru) == len(sizes)
        assert lru._protected_bytes == sum(e.size_bytes for e in lru._protected.values())


def test_files_of_nobody_are_removed_and_those_of_an_earlier_process_counted(tmp_path):
    (tmp_path / "0011223344556677.tmp").write_bytes(b"half")
    (tmp_path / "README").write_bytes(b"?")
    (tmp_path / blocks_name("a")).write_bytes(b"x" * 10_000)
    folder = CacheFolder(tmp_path, 2**20)
    assert [path.name for path in tmp_path.iterdir()] == [blocks_name("a")]
    assert folder.held_bytes == (tmp_path / blocks_name("a")).stat().st_blocks * 512


def test_files_that_are_put_aside_free_their_names_at_once(tmp_path):
    folder = CacheFolder(tmp_path, 2**20)
    (tmp_path / blocks_name("a")).write_bytes(b"x")
    aside = folder.put_aside([blocks_name("a"), blocks_name("never made")])
    assert not (tmp_path / blocks_name("a")).exists()
    folder.unlink(aside)
    assert list(tmp_path.iterdir()) == []
