import hashlib
from dataclasses import replace
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tantivy import TextAnalyzerBuilder, Tokenizer

from elacsym.errors import InvalidRequest, InvalidShape, UnknownAnalysis
from elacsym.index import tokenize
from elacsym.index.tokenize import analyzer, check_full_text
from elacsym.types import FullText


def tokens(text: str, **options) -> list[str]:
    return analyzer(FullText(**options)).tokens(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e.g.", ["e.g"]),
        ("U.S.A.", ["u.s.a"]),
        ("fish@sea.com", ["fish", "sea.com"]),
        ("e-mail", ["e", "mail"]),
        ("don't", ["don't"]),
        ("3.14 1,000.5 1;2", ["3.14", "1,000.5", "1;2"]),
        ("東京タワー", ["東", "京", "タワー"]),
        ("かな ไทย", ["か", "な", "ไ", "ท", "ย"]),
        ("snake_case __init__ __ _", ["snake_case", "__init__"]),
        ("a1.b2 1.a a.1 a:b", ["a1", "b2", "1", "a", "a", "1", "a:b"]),
        ("'quoted' (x) \u201cy\u201d", ["quoted", "x", "y"]),
        ("l’été l'été", ["l’été", "l'été"]),  # noqa: RUF001
        ("צ\"ל ג' ד'1 ד'א ה\" א\"1", ['צ"ל', "ג'", "ד'", "1", "ד'א", "ה", "א", "1"]),
        ("カ_カ a_カb _カ1 aカ", ["カ_カ", "a_カ", "b", "_カ", "1", "a", "カ"]),
        ("👨‍👩‍👧 👍🏽 1️⃣ ❤", ["👨‍👩‍👧", "👍🏽", "1️⃣", "❤"]),
        ("🇩🇪🇫🇷🇩", ["🇩🇪", "🇫🇷", "🇩"]),
        ("e\u0301a \u0301b so\u00adft", ["e\u0301a", "b", "so\u00adft"]),
        ("", []),
        (" - ... \u2028 €", []),
    ],
)
def test_word_v4_cuts_by_unicode_word_boundaries(text, expected):
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ("word_v4", ["don't", "3.14", "東", "京", "タワー", "👍🏽", "ok"]),
        ("word_v3", ["don't", "3.14", "東", "京", "タワー", "👍🏽", "ok"]),
        ("word_v2", ["don", "t", "3", "14", "東", "京", "タワー", "👍🏽", "ok"]),
        ("word_v1", ["don", "t", "3", "14", "東京タワー", "👍🏽", "ok"]),
        ("word_v0", ["don", "t", "3", "14", "東京タワー", "ok"]),
        ("pre_tokenized_array", ["Don't 3.14 東京タワー 👍🏽 OK"]),
    ],
)
def test_each_tokenizer_cuts_by_its_own_rule(tokenizer, expected):
    assert tokens("Don't 3.14 東京タワー 👍🏽 OK", tokenizer=tokenizer) == expected


CHARACTERS = {
    "ALetter": "aZéж한ㅏ\u05f3",
    "Hebrew_Letter": "אש",
    "Numeric": "17٣",
    "Katakana": "カー",
    "ExtendNumLet": "_\u203f\u202f",
    "MidLetter": ":·\u05f4",
    "MidNum": ",;\u037e",
    "MidNumLet": ".\u2019",
    "Single_Quote": "'",
    "Double_Quote": '"',
    "Extend": "\u0301\ufe0f\U0001f3fd",
    "Format": "\u00ad\u200e",
    "ZWJ": "\u200d",
    "Regional_Indicator": "\U0001f1e9\U0001f1ea",
    "Emoji": "👍❤",
    "Letter": "東かไ",
    "Other": " -\n$\u2028",
}
CLASS = {c: name for name, characters in CHARACTERS.items() for c in characters}
IGNORED = ("Extend", "Format", "ZWJ")
LETTERS = ("ALetter", "Hebrew_Letter")
SIGNS = ("MidLetter", "MidNum", "MidNumLet", "Single_Quote", "Double_Quote", "Other", *IGNORED)
JOINERS = (*LETTERS, "Numeric", "Katakana", "ExtendNumLet")


def has_boundary(elements: list[str], i: int) -> bool:
    """UAX #29: whether there is a boundary before element i: a character and the ignored after it (WB4)."""
    classes = [CLASS[element[0]] for element in elements]
    before, after = classes[i - 1], classes[i]
    twice_before = classes[i - 2] if i > 1 else ""
    twice_after = classes[i + 1] if i + 1 < len(classes) else ""
    mid_letter = ("MidLetter", "MidNumLet", "Single_Quote")
    mid_number = ("MidNum", "MidNumLet", "Single_Quote")
    # an emoji after a joiner goes with words and emoji, but never takes a space or a sign into its token
    loose = before in SIGNS and (i == 1 or has_boundary(elements, i - 1))
    flags = 0
    while flags < i and classes[i - 1 - flags] == "Regional_Indicator":
        flags += 1
    joined = (
        (elements[i - 1][-1] == "\u200d" and after == "Emoji" and not loose)  # WB3c
        or (before in LETTERS and after in LETTERS)  # WB5
        or (before in LETTERS and after in mid_letter and twice_after in LETTERS)  # WB6
        or (twice_before in LETTERS and before in mid_letter and after in LETTERS)  # WB7
        or (before == "Hebrew_Letter" and after == "Single_Quote")  # WB7a
        or (before == "Hebrew_Letter" and after == "Double_Quote" and twice_after == "Hebrew_Letter")  # WB7b
        or (twice_before == "Hebrew_Letter" and before == "Double_Quote" and after == "Hebrew_Letter")  # WB7c
        or (before in (*LETTERS, "Numeric") and after == "Numeric")  # WB8, WB9
        or (before == "Numeric" and after in LETTERS)  # WB10
        or (twice_before == "Numeric" and before in mid_number and after == "Numeric")  # WB11
        or (before == "Numeric" and after in mid_number and twice_after == "Numeric")  # WB12
        or (before == "Katakana" and after == "Katakana")  # WB13
        or (before in JOINERS and after == "ExtendNumLet")  # WB13a
        or (before == "ExtendNumLet" and after in JOINERS)  # WB13b
        or (after == "Regional_Indicator" and flags % 2 == 1)  # WB15, WB16
    )
    return not joined


def reference_segments(text: str) -> list[str]:
    """Segments by the letter of UAX #29 that hold a letter, a digit or an emoji."""
    elements: list[str] = []
    for character in text:
        if CLASS[character] in IGNORED and elements and elements[-1][0] not in "\n\u2028":
            elements[-1] += character
        else:
            elements.append(character)
    classes = [CLASS[element[0]] for element in elements]
    segments: list[list[int]] = []
    for i in range(len(elements)):
        if i and not has_boundary(elements, i):
            segments[-1].append(i)
        else:
            segments.append([i])
    wanted = (*LETTERS, "Numeric", "Katakana", "Regional_Indicator", "Emoji", "Letter")
    return ["".join(elements[i] for i in s) for s in segments if any(classes[i] in wanted for i in s)]


@settings(max_examples=500)
@given(
    st.lists(
        st.sampled_from(sorted(CHARACTERS)).flatmap(lambda n: st.sampled_from(CHARACTERS[n])), max_size=14
    )
)
def test_word_v4_agrees_with_the_rules_applied_one_by_one(characters):
    text = "".join(characters)
    assert tokens(text, case_sensitive=True) == reference_segments(text)


def test_characters_have_the_classes_the_reference_gives_them():
    for name, characters in CHARACTERS.items():
        if name not in ("Emoji", "Letter", "Other"):
            check = TextAnalyzerBuilder(Tokenizer.regex(rf"\p{{wb={name}}}")).build()
            assert [c for c in characters if check.analyze(c) != [c]] == []


@settings(max_examples=500)
@given(st.text("aB1_:.,;'\"- \n\x00", max_size=20), st.sampled_from(sorted(tokenize.tokenizer_names)))
def test_ascii_texts_are_cut_as_the_same_text_among_others(text, tokenizer):
    alone = tokens(text, tokenizer=tokenizer)
    among = tokens(text + " é", tokenizer=tokenizer)
    assert among == ([text + " é"] if tokenizer == "pre_tokenized_array" else [*alone, "é"])


def test_steps_come_in_the_order_long_case_stop_words_stem_fold():
    assert tokens("The Runners are Été", stemming=True) == ["the", "runner", "are", "été"]
    assert tokens("The Runners are Été", remove_stopwords=True) == ["runners", "été"]
    assert tokens("The Runners are Été", case_sensitive=True, remove_stopwords=True) == [
        "The",
        "Runners",
        "Été",
    ]
    assert tokens("À æon Straße", ascii_folding=True) == ["a", "aeon", "strasse"]
    # the stemmer sees the accents: folding first would give another stem
    assert tokens("continuité", language="french", stemming=True, ascii_folding=True) == ["continu"]
    assert tokens("là", language="french", remove_stopwords=True, ascii_folding=True) == ["la"]


def test_length_is_counted_in_characters_before_any_other_step():
    assert tokens("é" * 39 + " " + "é" * 40) == ["é" * 39]
    assert tokens("a" * 39 + " " + "a" * 40) == ["a" * 39]
    assert tokens("ß" * 4, ascii_folding=True, max_token_length=4) == ["ssssssss"]
    assert tokens("runnings", stemming=True, max_token_length=5) == []
    assert tokens("東京", max_token_length=1) == ["東", "京"]
    assert tokens("x" * 100_000 + " y") == ["y"]


@pytest.mark.parametrize("language", sorted(tokenize.languages))
def test_every_language_can_stem_and_those_with_stop_words_can_drop_them(language):
    plain = FullText(language=language, stemming=True)
    check_full_text(plain, "f")
    assert analyzer(plain).tokens("word")
    stopping = replace(plain, remove_stopwords=True)
    if language in ("arabic", "greek", "romanian", "tamil", "turkish"):
        with pytest.raises(InvalidRequest, match=r"^f\.remove_stopwords: there are no stop words for "):
            check_full_text(stopping, "f")
    else:
        check_full_text(stopping, "f")
        assert analyzer(stopping).tokens("zzyzx")


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        ({"tokenizer": "word_v5"}, InvalidShape, "tokenizer"),
        ({"language": "klingon"}, InvalidShape, "language"),
        ({"stemming": True, "case_sensitive": True}, InvalidRequest, "stemming"),
        ({"max_token_length": 0}, InvalidRequest, "max_token_length"),
        ({"max_token_length": 255}, InvalidRequest, "max_token_length"),
        ({"k1": 0.0}, InvalidRequest, "k1"),
        # times 1 - b it would be 0: a document without the term scored 0 / 0, and was lost
        ({"k1": 5e-324}, InvalidRequest, "k1"),
        ({"k1": float("nan")}, InvalidRequest, "k1"),
        ({"b": 1.1}, InvalidRequest, "b"),
        ({"b": -0.1}, InvalidRequest, "b"),
        ({"k3": -1.0}, InvalidRequest, "k3"),
        ({"tokenizer": "pre_tokenized_array", "stemming": True}, InvalidRequest, "stemming"),
        ({"tokenizer": "pre_tokenized_array", "language": "german"}, InvalidRequest, "language"),
        ({"tokenizer": "pre_tokenized_array", "remove_stopwords": True}, InvalidRequest, "remove_stopwords"),
    ],
)
def test_settings_that_no_analyzer_has_are_refused(options, error, field):
    with pytest.raises(error) as caught:
        check_full_text(FullText(**options), "text.full_text_search")
    assert type(caught.value) is error
    assert caught.value.field == f"text.full_text_search.{field}"


def test_the_largest_and_smallest_settings_are_taken():
    check_full_text(FullText(max_token_length=254, k1=1e-9, b=0.0, k3=0.0), "f")
    check_full_text(FullText(tokenizer="pre_tokenized_array", case_sensitive=True, b=1.0), "f")


def test_attributes_that_differ_in_scoring_share_an_analyzer():
    assert analyzer(FullText()) is analyzer(FullText(k1=2.0, b=0.1, k3=1.0))
    assert analyzer(FullText()) is not analyzer(FullText(stemming=True))


def test_a_full_memory_of_terms_changes_no_answer(monkeypatch):
    monkeypatch.setattr(tokenize, "TERMS_REMEMBERED", 3)
    fresh = tokenize.Analyzer(FullText())
    text = "One two THREE four five ONE Two"
    assert [fresh.tokens(text) for _ in range(3)] == [
        ["one", "two", "three", "four", "five", "one", "two"]
    ] * 3


def test_threads_that_share_an_analyzer_get_the_tokens_of_their_texts():
    fresh = tokenize.Analyzer(FullText(stemming=True))
    wrong: list[object] = []

    def run(number: int) -> None:
        for i in range(200):
            text = f"wörd{number}x{i} 東{chr(0x4E00 + i)} the{i}"
            expected = [f"wörd{number}x{i}", "東", chr(0x4E00 + i), f"the{i}"]
            if fresh.tokens(text) != expected:
                wrong.append(text)

    threads = [Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_dropped_token_keeps_its_place_and_what_is_no_token_has_none():
    analysis = tokenize.analyzer(FullText(remove_stopwords=True, max_token_length=5))
    assert analysis.places("Lord of the _ rings, lengthy king") == ["lord", "", "", "rings", "", "king"]
    assert analysis.query_places("the lord of rings the") == ["lord", "", "rings"]
    assert analysis.query_places(("of lord", "the rings")) == ["lord", "", "rings"]
    assert analysis.query_places("of the") == []


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (FullText(), FullText(k1=2.0, b=0.1, k3=0.0, language="german"), True),
        (FullText(stemming=True), FullText(stemming=True, language="german"), False),
        (FullText(remove_stopwords=True), FullText(), False),
        (FullText(), FullText(ascii_folding=True), False),
        (FullText(), FullText(max_token_length=40), False),
        (FullText(), FullText(tokenizer="word_v2"), False),
        (FullText(tokenizer=tokenize.PRE_TOKENIZED), FullText(tokenizer=tokenize.PRE_TOKENIZED, b=0.5), True),
    ],
)
def test_settings_have_one_analysis_where_they_give_the_same_terms(one, other, is_same):
    assert (tokenize.analysis_of(one) == tokenize.analysis_of(other)) is is_same


@pytest.mark.parametrize("unknown", ["2:word_v4:39", "1:word_v5:39", "", "nonsense"])
def test_an_analysis_of_a_later_program_is_refused(unknown):
    tokenize.check_analysis(tokenize.analysis_of(FullText()), "key")
    with pytest.raises(UnknownAnalysis, match="which this program lacks"):
        tokenize.check_analysis(unknown, "key")


SAMPLE = """The running dogs were quickly generalizing the houses of relationships and nationalities
in 2024, 3.14. Die laufenden Hunde waren schnell in den Häusern der Möglichkeiten; straße
ÄPFEL. Les chevaux couraient rapidement dans les maisons nationales. Los perros corriendo
rápidamente en las casas nacionales. I cani correvano nelle case nazionali. Os cachorros
correndo nas casas nacionais. De honden liepen snel in de huizen. Hundarna sprang snabbt i
husen. Hundene løb hurtigt i husene. Hundene løp raskt i husene. Koirat juoksivat nopeasti
taloissa. A kutyák gyorsan futottak a házakban. Câinii alergau repede în casele naționale.
Собаки быстро бегали в национальных домах. Τα σκυλιά έτρεχαν γρήγορα στα σπίτια. Köpekler
evlerde hızlıca koşuyordu. الكلاب تركض بسرعة في البيوت. நாய்கள் வீடுகளில் வேகமாக ஓடின.
東京タワー 👩‍👩‍👧 🇫🇷 e.g. U.S.A. fish@sea.com don't l'été naïve Zürich ﬁn æther"""  # noqa: RUF001


def test_the_terms_of_a_text_are_those_of_this_version_of_the_analysis():
    """Indexes outlive the program: where this fails because of another release of the libraries, raise
    ANALYSIS_VERSION, so that old indexes are not asked for terms that they do not have."""
    found = hashlib.blake2b(digest_size=16)
    for tokenizer in sorted(tokenize.tokenizer_names - {tokenize.PRE_TOKENIZED}):
        found.update(repr(tokens(SAMPLE, tokenizer=tokenizer, ascii_folding=True)).encode())
    for language in sorted(tokenize.languages):
        drops = language not in ("arabic", "greek", "romanian", "tamil", "turkish")
        found.update(repr(tokens(SAMPLE, language=language, stemming=True, remove_stopwords=drops)).encode())
    assert (tokenize.ANALYSIS_VERSION, found.hexdigest()) == (1, "77b237d3eb5a28e825a05267bcf9e9ef")
