"""Pattern conditions on texts: globs, regular expressions, and substrings within an edit distance.

Globs and expressions run on RE2, which takes time linear in the text whatever the pattern. Its syntax is that
of Rust's `regex` crate in most respects; it differs in these:

* `\\d`, `\\w`, `\\s` and `\\b` know ASCII only; `\\pN`, `\\pL`, `\\p{Greek}` and `(?i)` know Unicode;
* classes have no set operations (`[a-z&&[^aeiou]]`) and no classes inside them: these are refused;
* a counted repetition goes up to 1,000; what compiles to too large a program is refused;
* there are no flags `x`, `u` and `R`, no `\\u{…}` (but `\\x{…}`), no `\\<` and `\\>`, and no properties other
  than general categories and scripts (`\\p{Alphabetic}`).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.format.reading import Steps, together
from elacsym.index.attribute import SortedValues, Values
from elacsym.query.ast import Fuzzy, Glob, Regex
from elacsym.query.columns import Bools, to_bools
from elacsym.query.edits import has_near

# a class within a class, or a set operation, which RE2 would take for plain characters
_SET_SYNTAX = re.compile(r"&&|--|~~|\[(?!:\^?[a-z]+:\])")
# possessive, and satisfied with a class that never ends: time linear in the expression
_CLASS = re.compile(r"\\.|\[\^?\]?((?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*+)(?:\]|\\?\Z)", re.DOTALL)


def glob_expression(pattern: str, *, ignores_case: bool = False) -> str:
    """The regular expression that a glob stands for; it matches whole texts. Raises ValueError."""
    parts: list[str] = []
    depth = place = 0
    while place < len(pattern):
        sign = pattern[place]
        place += 1
        if sign == "[":
            part, place = _class_expression(pattern, place)
        elif sign == "\\":
            if place == len(pattern):
                raise ValueError("nothing follows the last backslash")
            part = re.escape(pattern[place])
            place += 1
        elif sign == "{":
            depth, part = depth + 1, "(?:"
        elif sign == "}":
            if not depth:
                raise ValueError("`}` without `{`")
            depth, part = depth - 1, ")"
        elif sign == "," and depth:
            part = "|"
        elif sign == "*":
            part = "" if parts and parts[-1] == ".*" else ".*"
        else:
            part = "." if sign == "?" else re.escape(sign)
        if part:
            parts.append(part)
    if depth:
        raise ValueError("`{` without `}`")
    return f"(?s{'i' if ignores_case else ''})\\A(?:{''.join(parts)})\\z"


def _class_expression(pattern: str, place: int) -> tuple[str, int]:
    """The class that begins behind a `[`, and the place behind its `]`."""
    is_negated = pattern[place : place + 1] in ("!", "^")
    place += is_negated
    signs: list[tuple[str, bool]] = []  # and whether it may stand for a range
    while True:
        sign = pattern[place : place + 1]
        if sign == "]" and signs:
            break
        place += 1
        is_escaped = sign == "\\"
        if is_escaped:
            sign = pattern[place : place + 1]
            place += 1
        if not sign:
            raise ValueError("`[` without `]`")
        signs.append((sign, not is_escaped))
    parts: list[str] = []
    at = 0
    while at < len(signs):
        first = signs[at][0]
        if at + 2 < len(signs) and signs[at + 1] == ("-", True):
            last = signs[at + 2][0]
            if last < first:
                raise ValueError(f"the range {first}-{last} is empty")
            parts.append(f"{_in_class(first)}-{_in_class(last)}")
            at += 3
        else:
            parts.append(_in_class(first))
            at += 1
    return f"[{'^' if is_negated else ''}{''.join(parts)}]", place + 1


def _in_class(sign: str) -> str:
    return f"\\x{{{ord(sign):x}}}"


def check_expression(expression: str) -> None:
    """Raises ValueError where RE2 does not take a regular expression, or takes it in another sense than
    expressions with set operations are meant."""
    for found in _CLASS.finditer(expression):
        if found[1] is not None and _SET_SYNTAX.search(_without_escapes(found[1])):
            raise ValueError("set operations and classes inside classes are not supported")
    try:
        pc.match_substring_regex(pa.array([""]), expression)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error).removeprefix("Invalid regular expression: ")) from error


def _without_escapes(inside: str) -> str:
    return re.sub(r"\\.", "", inside, flags=re.DOTALL)


def fits(condition: Glob | Regex | Fuzzy, texts: pa.Array) -> Bools:
    """(n,) bool: which texts of a string array a checked pattern fits; null fits none.

    Cost: one pass over the texts.
    """
    match condition:
        case Glob():
            expression = glob_expression(condition.pattern, ignores_case=condition.ignores_case)
            return to_bools(pc.match_substring_regex(texts, expression))
        case Regex():
            return to_bools(pc.match_substring_regex(texts, condition.pattern))
        case Fuzzy():
            distance = distance_of(condition)
            if distance is None:
                return np.zeros(len(texts), np.bool_)
            return has_near(texts, condition.text, distance, is_case_sensitive=condition.is_case_sensitive)


def distance_of(condition: Fuzzy) -> int | None:
    """How many edits are allowed; None where the text is shorter than every threshold."""
    allowed = [pair for pair in condition.thresholds if pair[0] <= len(condition.text)]
    return max(allowed)[1] if allowed else None


def rows_fitting(condition: Glob | Regex | Fuzzy, values: Values) -> Steps[Bools]:
    """(rows,) bool, fresh: where a value, or some element of an array, fits a checked pattern.

    Cost: one pass over the distinct values where an index has them and values repeat, else over the column.
    """
    index = values.index
    if index is not None and 2 * len(index) <= index.listed:
        return (yield from _by_distinct(condition, index, len(values)))
    array = yield from values.column()
    if not pa.types.is_list(array.type):
        return fits(condition, array)
    mask = np.zeros(len(array), np.bool_)
    if pa.types.is_string(array.type.value_type):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        mask[np.repeat(np.arange(len(array)), lengths)[fits(condition, array.flatten())]] = True
    return mask


def _by_distinct(condition: Glob | Regex | Fuzzy, index: SortedValues, rows: int) -> Steps[Bools]:
    both: list[Steps[Any]] = [index.distinct(), index.starts()]
    distinct, starts = yield from together(both)
    chosen = np.flatnonzero(fits(condition, distinct))
    ranges = np.stack([starts[chosen], starts[chosen + 1]], axis=1).astype(np.int64)
    mask = np.zeros(rows, np.bool_)
    mask[(yield from index.rows(ranges)).astype(np.int64)] = True
    return mask
