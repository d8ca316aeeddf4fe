"""The demo's vectors."""

import numpy as np

from elacsym.demo.embedding import LatentSemantics

TEXTS = [
    "read a compressed zip archive",
    "write members of a zip archive",
    "start a thread and wait for the thread",
    "lock shared between threads, released by one thread",
    "parse the arguments of a command line",
]


def test_vectors_are_unit_float32_and_repeatable():
    model, vectors = LatentSemantics.fit(TEXTS, 3)
    assert vectors.shape == (5, 3)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    again = LatentSemantics.fit(TEXTS, 3)[1]
    assert np.array_equal(vectors, again)
    assert model.dimensions == 3


def test_a_question_is_nearest_to_the_texts_about_its_subject():
    model, vectors = LatentSemantics.fit(TEXTS, 3)
    order = np.argsort(-(vectors @ model.project("zip archive")))
    assert set(order[:2].tolist()) == {0, 1}


def test_few_texts_give_fewer_dimensions_than_asked():
    model, vectors = LatentSemantics.fit(["alpha beta", "beta gamma"], 128)
    assert model.dimensions == vectors.shape[1] == 2


def test_a_question_of_unknown_words_has_the_zero_vector():
    model, _ = LatentSemantics.fit(TEXTS, 3)
    assert model.project("qwertyuiop").tolist() == [0.0, 0.0, 0.0]
