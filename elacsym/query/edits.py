"""Texts with a substring within an edit distance of a query: Levenshtein, in characters, exact.

A match within k edits leaves one of k + 1 pieces of the query untouched (the pigeonhole principle), so only
places where a piece occurs are looked at. Through such a place the alignment stays within k diagonals of
it; a dynamic program over these 2k + 1 diagonals (Ukkonen, "Algorithms for approximate string matching",
1985) decides, for many places at a time.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.query.columns import Bools, Ints, to_bools

# characters of texts decoded at a time, and places looked at together
_CHARACTERS_MAX = 2**20
_PLACES_MAX = 2**16
# hopeless places are dropped every so many characters of the query
_PRUNED_EVERY = 8

_Codes = npt.NDArray[np.uint32]


def has_near(texts: pa.Array, query: str, distance: int, *, is_case_sensitive: bool = True) -> Bools:
    """(n,) bool: which texts of a string array have a substring within `distance` edits of the query, of more
    than `distance` characters; null has none. Without case, characters compare by their lower-case form.

    Cost: a search for distance + 1 pieces in all texts; for texts that have one, and each place of one in
    them, up to a step per character of the query.
    """
    if not is_case_sensitive:
        texts, query = pc.utf8_lower(texts), pc.utf8_lower(pa.scalar(query)).as_py()
    pieces = _pieces(query, distance)
    found = np.zeros(len(texts), np.bool_)
    for _, piece in pieces:
        found |= to_bools(pc.match_substring(texts, piece))
    if distance == 0:
        return found
    rows = np.flatnonzero(found)
    candidates = texts.take(pa.array(rows))
    lengths = pc.utf8_length(candidates).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths)
    start = 0
    while start < len(rows):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHARACTERS_MAX, "right")))
        chosen = _near(candidates[start:stop], lengths[start:stop], query, pieces, distance)
        found[rows[start:stop]] = chosen
        start = stop
    return found


def _pieces(query: str, distance: int) -> list[tuple[int, str]]:
    """distance + 1 pieces of about the same length, with their places in the query."""
    cuts = [round(i * len(query) / (distance + 1)) for i in range(distance + 2)]
    return [(start, query[start:stop]) for start, stop in pairwise(cuts)]


def _near(texts: pa.Array, lengths: Ints, query: str, pieces: list[tuple[int, str]], distance: int) -> Bools:
    """Which of some texts, lengths in characters, are near."""
    codes, wanted = _codes("".join(texts.to_pylist())), _codes(query)
    stops = np.cumsum(lengths)
    # each diagonal of each text once
    span = len(codes) + len(query)
    places = [_occurrences(codes, stops, _codes(piece)) for _, piece in pieces]
    keys = [
        np.searchsorted(stops, at, "right") * span + at + (len(query) - start)
        for at, (start, _) in zip(places, pieces, strict=True)
    ]
    owners, starts = np.divmod(np.unique(np.concatenate(keys)), span)
    starts -= len(query)
    found = np.zeros(len(lengths), np.bool_)
    for first in range(0, len(owners), _PLACES_MAX):
        part = slice(first, first + _PLACES_MAX)
        is_open = ~found[owners[part]]
        owner, start = owners[part][is_open], starts[part][is_open]
        is_near = _aligned(codes, wanted, start, (stops - lengths)[owner], stops[owner], distance)
        found[owner[is_near]] = True
    return found


def _codes(text: str) -> _Codes:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _occurrences(codes: _Codes, stops: Ints, piece: _Codes) -> Ints:
    """Where a piece occurs within one of the texts that follow each other and end at `stops`."""
    places = np.flatnonzero(codes[: max(0, len(codes) - len(piece) + 1)] == piece[0])
    for offset, code in enumerate(piece.tolist()):
        places = places[codes[places + offset] == code]
    ends = stops[np.searchsorted(stops, places, "right")]
    return places[places + len(piece) <= ends]


def _aligned(
    codes: _Codes, wanted: _Codes, starts: Ints, lows: Ints, highs: Ints, distance: int
) -> npt.NDArray[np.int64]:
    """The numbers of those places where the wanted characters align with a text within `distance` edits.

    starts: where the text would begin to align without an edit; lows, highs: the bounds of the text; (n,)
    each.
    """
    far = distance + 1
    shifts = np.arange(-distance, distance + 1)[:, None]
    alive = np.arange(len(starts))
    # costs[d, n]: the least edits that align the first characters with what ends on diagonal d
    at = starts + shifts
    costs = np.where((at >= lows) & (at <= highs), 0, far).astype(np.int8)
    for place, code in enumerate(wanted.tolist()):
        if place % _PRUNED_EVERY == 0 and place:
            is_hopeful = (costs <= distance).any(axis=0)
            alive, costs, at = alive[is_hopeful], costs[:, is_hopeful], at[:, is_hopeful]
            lows, highs = lows[is_hopeful], highs[is_hopeful]
            if not len(alive):
                break
        is_inside = (at >= lows) & (at < highs)
        is_other = codes[np.where(is_inside, at, 0)] != code
        following = np.where(is_inside, np.minimum(costs + is_other, far), far).astype(np.int8)
        # the wanted character is missing from the text
        np.minimum(following[:-1], costs[1:] + 1, out=following[:-1])
        for shift in range(1, len(shifts)):
            # the text has a further character
            further = np.where(is_inside[shift], following[shift - 1] + 1, far)
            np.minimum(following[shift], further.astype(np.int8), out=following[shift])
        costs, at = np.minimum(following, far), at + 1
    return alive[(costs <= distance).any(axis=0)]
