"""The demo's documents: the docstrings of the Python standard library of this interpreter.

Sources are parsed, never imported: some modules open a browser, print a poem or change the process on import.
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOC_CHARS_MIN = 40
_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test"})
_SKIPPED_PREFIXES = ("test_", "_test")

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented thing. name: dotted, below its module; line: where it begins in the module's source."""

    name: str
    kind: str
    module: str
    doc: str
    line: int

    @property
    def full_name(self) -> str:
        """The dotted name with its module."""
        return f"{self.module}.{self.name}" if self.name != self.module else self.module

    @property
    def text(self) -> str:
        """Name and docstring as one text."""
        return f"{self.full_name}\n{self.doc}"


def standard_library() -> list[Entry]:
    """Every module, class, function and method with a docstring of some length, by module and line."""
    entries: list[Entry] = []
    for module, path in _sources(Path(sysconfig.get_paths()["stdlib"])):
        entries += entries_of(path.read_bytes(), module)
    return entries


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every source of the standard library below `root`, tests left out."""
    for name in sorted(sys.stdlib_module_names):
        # only these names: the folder may hold any number of installed packages, too
        single, package = root / f"{name}.py", root / name
        for path in [single] if single.is_file() else sorted(package.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if not _SKIPPED_FOLDERS & set(parts) and not parts[-1].startswith(_SKIPPED_PREFIXES):
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def entries_of(source: bytes, module: str) -> list[Entry]:
    """The documented definitions of one source; none where it does not parse (templates, other syntax)."""
    try:
        with warnings.catch_warnings():
            # old escape sequences in strings: not ours to report
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return list(_walk(tree, module, ""))


def _walk(node: Definition, module: str, prefix: str) -> Iterator[Entry]:
    doc = ast.get_docstring(node, clean=False)
    if doc is not None and len(doc) >= DOC_CHARS_MIN:
        line = 1 if isinstance(node, ast.Module) else node.lineno
        yield Entry(prefix or module, _kind(node, prefix), module, inspect.cleandoc(doc), line)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, module, f"{prefix}.{child.name}" if prefix else child.name)


def _kind(node: Definition, prefix: str) -> str:
    if isinstance(node, ast.Module):
        return "module"
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if "." in prefix else "function"
