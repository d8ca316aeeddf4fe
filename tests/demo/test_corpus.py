"""The demo's documents."""

import sys

from elacsym.demo.corpus import DOC_CHARS_MIN, entries_of, standard_library

LONG = "what it does, said in more than forty characters"


def test_modules_classes_functions_and_methods_are_found_with_their_lines():
    source = f'''"""{LONG} 1"""

class A:
    """{LONG} 2"""
    def m(self):
        """{LONG} 3"""
        def inner():
            """{LONG} 4"""

async def f():
    """{LONG} 5"""

def bare(): ...
'''
    found = [(e.name, e.kind, e.line, e.doc[-1], e.full_name) for e in entries_of(source.encode(), "pkg.mod")]
    assert found == [
        ("pkg.mod", "module", 1, "1", "pkg.mod"),
        ("A", "class", 3, "2", "pkg.mod.A"),
        ("A.m", "method", 5, "3", "pkg.mod.A.m"),
        ("A.m.inner", "method", 7, "4", "pkg.mod.A.m.inner"),
        ("f", "function", 10, "5", "pkg.mod.f"),
    ]


def test_docstrings_that_say_next_to_nothing_are_left_out():
    assert entries_of(b'"""Short."""\n', "m") == []


def test_a_source_that_does_not_parse_gives_nothing():
    assert entries_of(b"print 'python 2'\n", "m") == []
    assert entries_of(b"\x00", "m") == []


def test_the_standard_library_gives_thousands_of_documents_and_is_not_imported():
    # `this` prints a poem and `antigravity` opens a browser when they are imported
    before = {"this", "antigravity", "turtledemo"} & set(sys.modules)
    entries = standard_library()
    assert {"this", "antigravity", "turtledemo"} & set(sys.modules) == before
    assert len(entries) > 3_000
    names = {e.full_name for e in entries}
    assert {"json", "json.dumps", "argparse.ArgumentParser", "zipfile.ZipFile.extractall"} <= names
    modules = {e.module for e in entries}
    assert not [m for m in modules if {"test", "tests", "idle_test"} & set(m.split("."))]
    assert all(len(e.doc) >= DOC_CHARS_MIN // 2 for e in entries)
