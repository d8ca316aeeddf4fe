"""Text to terms: tokenizers by name and version, and the steps that every token goes through.

A tokenizer cuts a text into segments; each distinct segment goes once through drop long, lower-case, stop
words, stem, fold (in this order) and its term is remembered, so that a corpus costs one cutting and one
look-up per token.

ASCII texts are cut by a pattern over the text. Others are first translated to one letter per character, its
class, and the rules are patterns over these letters: they read like the rules of UAX #29
(https://www.unicode.org/reports/tr29/), and the classes are those of the Unicode tables in tantivy's regex
engine.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

from elacsym.errors import InvalidRequest, InvalidShape, UnknownAnalysis
from elacsym.types import FullText

PRE_TOKENIZED = "pre_tokenized_array"
TOKEN_LENGTH_MAX = 254
# raised whenever a text may get other terms than before under the same settings
ANALYSIS_VERSION = 1
TERMS_REMEMBERED = 2**17  # segments whose terms an analyzer remembers: some 20 MiB

languages = frozenset(
    (
        "arabic",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hungarian",
        "italian",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "spanish",
        "swedish",
        "tamil",
        "turkish",
    )
)
_STEPS = ("case_sensitive", "remove_stopwords", "stemming", "ascii_folding")
_NO_STOPWORDS = frozenset(("arabic", "greek", "romanian", "tamil", "turkish"))

_EMOJI = r"[\p{Extended_Pictographic}&&\p{Emoji}]"
_EXTEND = r"[\p{wb=Extend}\p{wb=Format}]"

# the letter that stands for a character is that of the first class that has it; a space where none has
_UAX29_CLASSES = {
    "L": r"\p{wb=ALetter}",
    "H": r"\p{wb=Hebrew_Letter}",
    "N": r"\p{wb=Numeric}",
    "K": r"\p{wb=Katakana}",
    "_": r"\p{wb=ExtendNumLet}",
    ":": r"\p{wb=MidLetter}",
    ",": r"\p{wb=MidNum}",
    ".": r"\p{wb=MidNumLet}",
    "'": r"\p{wb=Single_Quote}",
    '"': r"\p{wb=Double_Quote}",
    "J": r"\p{wb=ZWJ}",
    "E": _EXTEND,
    "R": r"\p{wb=Regional_Indicator}",
    "O": r"[\p{L}\p{N}]",
    "P": _EMOJI,
}
# WB4 to WB13b: an element goes on into the next one, or it is the last. WB3c, WB15, WB16: emoji and flags
_UAX29_CUT = re.compile(
    r"""L++ (?![EJHN_:.'])  # most words
       |(?:(?:L++ x (?: (?=[LHN_]) | [:.'] x (?=[LH]) )
             |H   x (?: (?=[LHN_]) | [:.'] x (?=[LH]) | " x (?=H) )
             |N++ x (?: (?=[LHN_]) | [,.'] x (?=N) )
             |K++ x (?=[K_])
             |_++ x (?=[LHNK_])
           )*+
           (?: H x ' x | L++ x | N++ x | K++ x | _++ x | H x | O x | P x )
          |R x (?: R x )?
        )
        (?: (?<=J) P x )*+""".replace("x", "[EJ]*+"),
    re.VERBOSE,
)
_UAX29_CUT_ASCII = re.compile(
    r"""[A-Za-z0-9_]++
        (?: [:.',;] (?: (?<=[A-Za-z][:.']) (?=[A-Za-z]) | (?<=[0-9][,.';]) (?=[0-9]) ) [A-Za-z0-9_]++ )*+""",
    re.VERBOSE,
)

_RUN_CLASSES = {
    "I": r"\p{Ideographic}",
    "L": r"[\p{L}\p{N}]",
    "E": r"[\p{M}\p{wb=Extend}\p{wb=Format}]",
    "J": r"\p{wb=ZWJ}",
    "R": r"\p{wb=Regional_Indicator}",
    "P": _EMOJI,
}
_RUN_EMOJI = "|P[EJ]*+(?:(?<=J)P[EJ]*+)*+|R[EJ]*+(?:R[EJ]*+)?"
_RUN_CUT_ASCII = re.compile("[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class _Rules:
    """How a tokenizer cuts: character classes, the pattern over their letters, the same for ASCII texts."""

    classes: Mapping[str, str]
    cut: re.Pattern[str]
    cut_ascii: re.Pattern[str]


_UAX29 = _Rules(_UAX29_CLASSES, _UAX29_CUT, _UAX29_CUT_ASCII)
_RULES = {
    "word_v4": _UAX29,
    "word_v3": _UAX29,
    "word_v2": _Rules(_RUN_CLASSES, re.compile("I[EJ]*+|L[LEJ]*+" + _RUN_EMOJI), _RUN_CUT_ASCII),
    "word_v1": _Rules(_RUN_CLASSES, re.compile("[IL][ILEJ]*+" + _RUN_EMOJI), _RUN_CUT_ASCII),
    "word_v0": _Rules(_RUN_CLASSES, re.compile("[IL][ILEJ]*+"), _RUN_CUT_ASCII),
}
tokenizer_names = frozenset((*_RULES, PRE_TOKENIZED))


class Analyzer:
    """Text to terms under one attribute's settings; the same at write and at query time. Safe for threads."""

    def __init__(self, settings: FullText) -> None:
        self.settings = settings
        self._rules = _RULES.get(settings.tokenizer)
        # a plain attribute, because this runs once per token
        self.term: Callable[[str], str] = str if self._rules is None else _Terms(settings).__getitem__
        """Segment to its term, empty where it is dropped."""

    def tokens(self, text: str) -> list[str]:
        """The terms of a text, in order. Under `pre_tokenized_array` a text is one term."""
        return list(filter(None, map(self.term, self.segments(text))))

    def places(self, text: str) -> list[str]:
        """The terms of a text by their places, empty where a token was dropped for being long or a stop
        word."""
        return [
            term
            for segment in self.segments(text)
            if (term := self.term(segment)) or _is_token(self._rules, segment)
        ]

    def query_places(self, query: str | Sequence[str]) -> list[str]:
        """The places of a query, which is a text, or tokens that are analysed each and follow one another;
        it begins and ends with a term."""
        places = [place for text in _texts(query) for place in self.places(text)]
        kept = [number for number, place in enumerate(places) if place]
        return places[kept[0] : kept[-1] + 1] if kept else []

    def segments(self, text: str) -> list[str]:
        """What the tokenizer cuts a text into, before any other step."""
        if self._rules is None:
            return [text]
        if text.isascii():
            return self._rules.cut_ascii.findall(text)
        return [text[start:end] for start, end in self.spans(text)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the segments stand in a text, in characters: (start, end) of each, in order."""
        if self._rules is None:
            return [(0, len(text))]
        if text.isascii():
            return [match.span() for match in self._rules.cut_ascii.finditer(text)]
        return [match.span() for match in self._rules.cut.finditer(text.translate(_classes(self._rules)))]


def analysis_of(settings: FullText) -> str:
    """What decides about the terms of a text, in one word: indexes of one analysis can be joined, and asked
    for each other's terms. It names the version of this module's rules, to be raised when they change."""
    if settings.tokenizer == PRE_TOKENIZED:
        return f"{ANALYSIS_VERSION}:{PRE_TOKENIZED}"
    steps = [name for name in _STEPS if getattr(settings, name)]
    # stemming and stop words are all that a language tells
    language = [settings.language] if settings.stemming or settings.remove_stopwords else []
    return ":".join(
        [str(ANALYSIS_VERSION), settings.tokenizer, str(settings.max_token_length), *steps, *language]
    )


def check_analysis(analysis: str, key: str) -> None:
    """Raise UnknownAnalysis unless this program has what an index was made with. key: the index's object."""
    version, _, rest = analysis.partition(":")
    if version != str(ANALYSIS_VERSION) or rest.partition(":")[0] not in tokenizer_names:
        raise UnknownAnalysis(key, analysis)


def analyzer(settings: FullText) -> Analyzer:
    """The analyzer of these settings; one per process, whatever the scoring parameters."""
    return _analyzer(replace(settings, k1=1.2, b=0.75, k3=8.0))


@lru_cache(maxsize=64)
def _analyzer(settings: FullText) -> Analyzer:
    return Analyzer(settings)


def check_full_text(settings: FullText, field: str, named: Container[str] = ()) -> None:
    """Refuse settings that no analyzer has. `field` is the JSON path of the settings; named: those that the
    request gave, where even a default may contradict another one.

    Raises InvalidShape for an unknown tokenizer or language, InvalidRequest for values or combinations that
    are not allowed.
    """
    if settings.tokenizer not in tokenizer_names:
        names = ", ".join(sorted(tokenizer_names))
        raise InvalidShape(
            f"{field}.tokenizer", f"unknown tokenizer {settings.tokenizer!r}, expecting one of {names}"
        )
    if settings.language not in languages:
        names = ", ".join(sorted(languages))
        raise InvalidShape(
            f"{field}.language", f"unknown language {settings.language!r}, expecting one of {names}"
        )
    if settings.tokenizer == PRE_TOKENIZED:
        _check_pre_tokenized(settings, field, named)
    if settings.stemming and settings.case_sensitive:
        raise InvalidRequest(f"{field}.stemming", "not allowed together with case_sensitive")
    if settings.remove_stopwords and settings.language in _NO_STOPWORDS:
        raise InvalidRequest(f"{field}.remove_stopwords", f"there are no stop words for {settings.language}")
    if not 1 <= settings.max_token_length <= TOKEN_LENGTH_MAX:
        reason = f"{settings.max_token_length} where 1 to {TOKEN_LENGTH_MAX} are allowed"
        raise InvalidRequest(f"{field}.max_token_length", reason)
    # written so that NaN is refused; k1 stands alone below the line of the formula where a term is absent
    for name, low, high in (("k1", 1e-9, 1e6), ("k3", 0.0, 1e6), ("b", 0.0, 1.0)):
        value = getattr(settings, name)
        if not low <= value <= high:
            raise InvalidRequest(f"{field}.{name}", f"{value} is out of range")


def _check_pre_tokenized(settings: FullText, field: str, named: Container[str]) -> None:
    """Tokens are compared as they come: refuse what would change them."""
    defaults = FullText()
    for name in ("language", "stemming", "remove_stopwords", "ascii_folding"):
        if getattr(settings, name) != getattr(defaults, name) or (name == "language" and name in named):
            raise InvalidRequest(f"{field}.{name}", f"not allowed with the tokenizer {PRE_TOKENIZED}")
    if "case_sensitive" in named and not settings.case_sensitive:
        raise InvalidRequest(
            f"{field}.case_sensitive", f"false is not allowed with the tokenizer {PRE_TOKENIZED}"
        )


def _texts(query: str | Sequence[str]) -> Sequence[str]:
    return (query,) if isinstance(query, str) else query


def _is_token(rules: _Rules | None, segment: str) -> bool:
    """Whether a segment has a letter, digit or emoji."""
    return rules is not _UAX29 or bool(segment.translate(_classes(_UAX29)).strip("_EJ"))


class _Terms(dict[str, str]):
    """Segment to term; an empty term where the segment is dropped."""

    def __init__(self, settings: FullText) -> None:
        super().__init__()
        self._length_max = settings.max_token_length
        self._rules = _RULES.get(settings.tokenizer)
        self._chain = _chain(settings)
        self._lock = threading.Lock()

    def __missing__(self, segment: str) -> str:
        if len(segment) > self._length_max:
            return ""  # not remembered: it may be as long as the text
        with self._lock:
            if len(self) >= TERMS_REMEMBERED:
                self.clear()
            self[segment] = term = self._term(segment)
        return term

    def _term(self, segment: str) -> str:
        if not _is_token(self._rules, segment):
            return ""
        return next(iter(self._chain.analyze(segment)), "")


class _Classes(dict[int, str]):
    """Code point to the letter of its class, filled as characters turn up: a table for str.translate."""

    def __init__(self, classes: Mapping[str, str]) -> None:
        super().__init__()
        self._tests = {letter: _regex(pattern) for letter, pattern in classes.items()}
        self._lock = threading.Lock()

    def __missing__(self, code: int) -> str:
        # a lone surrogate is no character: Rust has no strings with it
        character = "" if 0xD800 <= code <= 0xDFFF else chr(code)
        with self._lock:
            found = (letter for letter, test in self._tests.items() if test.analyze(character))
            self[code] = letter = next(found, " ")
        return letter


@cache
def _classes_of(names: tuple[tuple[str, str], ...]) -> _Classes:
    return _Classes(dict(names))


def character_classes(classes: Mapping[str, str]) -> dict[int, str]:
    """A table for `str.translate`: code point to the letter of the first class that has the character, a
    space where none has. classes: letter to pattern, as Rust's regular expressions write classes."""
    return _classes_of(tuple(classes.items()))


def _classes(rules: _Rules) -> dict[int, str]:
    return character_classes(rules.classes)


def _regex(pattern: str) -> TextAnalyzer:
    return TextAnalyzerBuilder(Tokenizer.regex(pattern)).build()


def _chain(settings: FullText) -> TextAnalyzer:
    builder = TextAnalyzerBuilder(Tokenizer.raw())
    if not settings.case_sensitive:
        builder = builder.filter(Filter.lowercase())
    if settings.remove_stopwords:
        builder = builder.filter(Filter.stopword(settings.language))
    if settings.stemming:
        builder = builder.filter(Filter.stemmer(settings.language))
    if settings.ascii_folding:
        builder = builder.filter(Filter.ascii_fold())
    return builder.build()
