"""Text encoders."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import eager_rec

TITLES = ["red nail polish", "nail polish remover", "lip gloss", "red lip gloss", "matte red lipstick"]


def test_lsa_is_fitted_on_the_catalogue():
    encoder = eager_rec.TextEncoder("lsa", TITLES)
    vectors = encoder.encode(TITLES + ["unheard of"])
    assert vectors.dtype == np.float32 and vectors.shape == (6, encoder.dim)
    assert np.allclose(np.linalg.norm(vectors[:5], axis=1), 1, atol=1e-5) and not vectors[5].any()
    similar = vectors @ vectors[0]
    assert similar[1] > similar[2], "two words in common, and none"
    assert (encoder.name, len(encoder.digest)) == ("lsa", 64)
    assert encoder.encode([]).shape == (0, encoder.dim)
    with pytest.raises(ValueError, match="lsa"):
        eager_rec.TextEncoder("lsa")


def test_a_folder_as_sentence_transformers_wrote_it():
    """Texts and vectors that sentence-transformers itself wrote down, of a Sentence-T5 of very few weights."""
    folder = Path(__file__).parents[2] / "crates/eager-text/tests/fixtures/st5-mini"
    expected = json.loads((folder / "expected.json").read_text())
    found = eager_rec.TextEncoder(folder).encode([case["text"] for case in expected])
    assert np.abs(found - np.array([case["embedding"] for case in expected])).max() < 1e-5


def test_minilm_as_sentence_transformers_computed_it():
    shared = os.environ.get("EAGER_SHARED_DIR")
    folder = Path(shared or "", "models/all-MiniLM-L6-v2")
    if not shared or not folder.is_dir():
        pytest.skip("EAGER_SHARED_DIR has no models/all-MiniLM-L6-v2")
    golden = json.loads((folder / "golden.json").read_text())
    found = eager_rec.TextEncoder(folder).encode(golden["texts"])
    assert np.abs(found - np.array(golden["embeddings"])).max() < 1e-5


def test_names_and_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="`sentence-t5` is no text encoder: give one of"):
        eager_rec.TextEncoder("sentence-t5")
    with pytest.raises(FileNotFoundError, match="modules.json"):
        eager_rec.TextEncoder(tmp_path)
    with pytest.raises(TypeError):
        eager_rec.TextEncoder("lsa", TITLES).encode("one text")
