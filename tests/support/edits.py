"""Edit distances as they are defined."""

from __future__ import annotations


def least_edits(query: str, text: str) -> int:
    """The least edits between a query and a substring of a text, spelled out."""
    row = [0] * (len(text) + 1)
    for i, sign in enumerate(query, 1):
        following = [i]
        for j, other in enumerate(text, 1):
            following.append(min(row[j - 1] + (sign != other), row[j] + 1, following[j - 1] + 1))
        row = following
    return min(row)
