"""The bundle itself: what it is, why an item, items like an item, codes, vectors; and bundles that are none."""

import json
import multiprocessing
import shutil
from importlib.metadata import version

import numpy as np
import pytest

import eager_rec


def test_what_it_is(bundle, folder):
    manifest = json.loads((folder / "bundle.json").read_text())
    assert bundle.manifest == manifest
    assert (bundle.name, bundle.n_items, len(bundle)) == ("random", 60, 60)
    assert len(bundle.digest) == 64 and bundle.digest[:12] in repr(bundle)
    assert bundle.item_ids == [f"i{n}" for n in range(60)]
    assert bundle.titles[59] == "Item number 59"
    assert bundle.categories == ["all", *(f"c{n}" for n in range(9))]
    assert bundle.numbers(["i7", 3, "i0"]).tolist() == [7, 3, 0]
    with pytest.raises(LookupError, match=r"ids\[1\]: item \"x\""):
        bundle.numbers(["i7", "x"])
    assert eager_rec.__version__ == version("eager-rec")


def test_explanations_add_up_to_the_lists(bundle, histories):
    for history in histories[:5]:
        lists = bundle.recommend([history], 60)
        why = bundle.explain(history, lists.ids[0], samples=2)
        assert [item["id"] for item in why] == lists.ids[0].tolist()
        for view in ("behaviour", "semantic"):
            sums = [item[view]["log_prob"] for item in why]
            known = ~np.isnan(getattr(lists, view)[0])
            assert np.allclose(np.array(sums)[known], getattr(lists, view)[0][known], atol=1e-4)
            for item in why:
                tokens = item[view]["tokens"]
                assert np.isclose(sum(token["log_prob"] for token in tokens), item[view]["log_prob"], atol=1e-4)
                assert tokens[-1]["samples"] == [item["id"]] and tokens[-1]["leaves"] == 1
                assert all(0 <= token["token"] < token["siblings"] for token in tokens)
                assert all(len(token["samples"]) <= 2 for token in tokens)
    with pytest.raises(ValueError, match="history is empty"):
        bundle.explain([], ["i1"])
    with pytest.raises(LookupError, match=r"items\[0\]"):
        bundle.explain(["i1"], ["x"])


@pytest.mark.parametrize("view", ["behaviour", "semantic"])
def test_codes_and_vectors(bundle, view):
    codes, items = bundle.codes(view)
    assert codes.dtype == items.dtype == np.int32
    assert codes.shape[0] == len(items) >= 60
    assert items[:60].tolist() == list(range(60)) and set(items) == set(range(60))
    assert len(np.unique(codes, axis=0)) == len(codes), "a leaf has its own path"
    why = bundle.explain(["i1"], range(60), samples=0)
    paths = [[token["token"] for token in item[view]["tokens"]] for item in why]
    leaves = {(tuple(code), item) for code, item in zip(codes.tolist(), items.tolist())}
    assert all((tuple(path), item) in leaves for item, path in enumerate(paths))

    vectors = bundle.vectors(view)
    assert vectors.dtype == np.float32 and vectors.shape == (60, 6 if view == "behaviour" else 10)
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit[17]
    cosines[17] = -2
    near = bundle.similar("i17", view, k=5)
    assert [item["id"] for item in near] == [f"i{n}" for n in np.argsort(-cosines)[:5]]
    assert np.allclose([item["cosine"] for item in near], np.sort(cosines)[::-1][:5], atol=1e-6)
    assert bundle.similar(17, view, k=5) == near
    vectors[:] = 0
    assert bundle.vectors(view).any(), "a copy: the bundle does not change"


def test_views_are_two(bundle):
    for ask in (bundle.codes, bundle.vectors, lambda view: bundle.similar("i1", view)):
        with pytest.raises(ValueError, match='view is "text", expected "behaviour" or "semantic"'):
            ask("text")


def test_bundles_that_are_none(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="bundle.json"):
        eager_rec.Bundle.load(tmp_path)
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(FileNotFoundError, match="this is a run, not a bundle; `eager export`"):
        eager_rec.Bundle.load(tmp_path)
    with pytest.raises(ValueError, match="threads is 0"):
        eager_rec.Bundle.load(folder, threads=0)
    for name in sorted(path.name for path in folder.iterdir()):
        copy = tmp_path / name.replace(".", "-")
        shutil.copytree(folder, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        # A changed letter may leave `bundle.json` readable: then another file is not what it says.
        if name == "bundle.json":
            (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(eager_rec.BundleError, match=name):
            eager_rec.Bundle.load(copy)
        (copy / name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            eager_rec.Bundle.load(copy)


def in_child(bundle, results):
    try:
        bundle.recommend([["i1"]])
    except RuntimeError as error:
        results.put(str(error))


def forked(target, *args):
    """What `target` puts into its last argument, a queue, in a forked child."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=target, args=(*args, results))
    child.start()
    try:
        return results.get(timeout=60)
    finally:
        # One that waits for ever is not waited for.
        child.join(timeout=10)
        child.kill()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told(bundle):
    assert "before the process was forked" in forked(in_child, bundle)


def encode_in_child(encoder, titles, results):
    try:
        encoder.encode(titles)
    except RuntimeError as error:
        results.put((str(error), eager_rec.TextEncoder("lsa", titles).encode(titles)))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_text_encoder_is_made_anew_in_a_forked_process(bundle):
    titles = bundle.titles
    encoder = eager_rec.TextEncoder("lsa", titles)
    expected = encoder.encode(titles)
    told, vectors = forked(encode_in_child, encoder, titles)
    assert "before the process was forked" in told
    assert np.array_equal(vectors, expected)
