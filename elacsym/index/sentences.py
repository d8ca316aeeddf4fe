"""Where sentences end: the sentence boundaries of UAX #29 (https://www.unicode.org/reports/tr29/).

As in `elacsym.index.tokenize`, a text becomes one letter per character, its class, and the rules are a
pattern over these letters. Characters that extend the one before them (SB5) are left out first.
"""

from __future__ import annotations

import re

import numpy as np

from elacsym.index.tokenize import character_classes

# the properties of sentence breaking; classes are letters of the pattern below
_CLASSES = {
    "r": r"\r",
    "n": r"\n",
    "p": r"\p{sb=Sep}",
    "E": r"[\p{sb=Extend}\p{sb=Format}]",
    "Z": r"\p{sb=Sp}",
    "L": r"\p{sb=Lower}",
    "U": r"\p{sb=Upper}",
    "O": r"\p{sb=OLetter}",
    "N": r"\p{sb=Numeric}",
    "A": r"\p{sb=ATerm}",
    "S": r"\p{sb=STerm}",
    "C": r"\p{sb=Close}",
    "K": r"\p{sb=SContinue}",
}
# what extends a character, unless that separates paragraphs (SB4 comes before SB5)
_EXTENDING = re.compile("(?<=[^rnp])E")
_END = re.compile(
    r"""(?: (?: (?<=[UL]) A (?!U)                             # SB7
              | (?<![UL]) A )
            (?!N)                                             # SB6
            C*+ Z*+ (?! [^OULrnpSA]*+ L) (?! [KSA])           # SB8, SB8a, SB9, SB10
          | S C*+ Z*+ (?! [KSA]) )
        (?: rn | [rnp] )?                                     # SB11
      | rn | [rnp]                                            # SB3, SB4""",
    re.VERBOSE,
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The sentences of a text, (start, end) in characters; together they are the whole text."""
    if not text:
        return []
    letters = text.translate(character_classes(_CLASSES))
    extending = [match.start() for match in _EXTENDING.finditer(letters)]
    places = np.delete(np.arange(len(text) + 1), extending)
    kept = "".join(np.delete(np.array(list(letters)), extending)) if extending else letters
    ends = [int(places[match.end()]) for match in _END.finditer(kept)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return list(zip([0, *ends[:-1]], ends, strict=True))
