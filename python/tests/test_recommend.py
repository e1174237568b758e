"""Lists: the same as the command's, whatever is asked."""

import json
import subprocess
import threading

import numpy as np
import pytest

import eager_rec


def of_command(command, folder, histories, tmp_path, *options):
    """What `eager recommend` answers, a list of dictionaries a user."""
    users = tmp_path / "users.jsonl"
    lines = (json.dumps({"user": f"u{at}", "history": history}) for at, history in enumerate(histories))
    users.write_text("\n".join(lines) + "\n")
    arguments = [command, "-q", "recommend", folder, "--users", users, *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return [json.loads(line)["items"] for line in done.stdout.splitlines()]


def assert_same(lists, expected):
    assert len(lists) == len(expected)
    for found, items in zip(lists.to_lists(), expected):
        assert [item["id"] for item in found] == [item["id"] for item in items]
        assert [item["title"] for item in found] == [item["title"] for item in items]
        for key in ("score", "behaviour", "semantic"):
            values = [(item[key], other.get(key)) for item, other in zip(found, items)]
            # The command writes the shortest text that reads back as the same 32 bits.
            assert all(a is b is None or np.float32(a) == np.float32(b) for a, b in values)


@pytest.mark.parametrize("kind", ["merged", "behaviour", "semantic"])
@pytest.mark.parametrize("k", [1, 10, 35])
def test_lists_are_those_of_the_command(bundle, folder, command, histories, tmp_path, kind, k):
    expected = of_command(command, folder, histories, tmp_path, "--list", kind, "-k", str(k))
    assert_same(bundle.recommend(histories, k, list=kind), expected)


def test_filters_are_those_of_the_command(bundle, folder, command, histories, tmp_path):
    ids = bundle.item_ids
    allow, deny = ids[5:50], ids[10:20]
    for name, items in (("allow", allow), ("deny", deny)):
        (tmp_path / name).write_text("\n".join(items) + "\n")
    options = ["--exclude-seen", "--allow", tmp_path / "allow", "--deny", tmp_path / "deny"]
    options += ["--category", "c1", "--category", "c2", "--category", "c4"]
    expected = of_command(command, folder, histories, tmp_path, *options)
    found = bundle.recommend(
        histories, exclude_seen=True, allow=allow, deny=bundle.numbers(deny), categories=["c1", "c2", "c4"]
    )
    assert_same(found, expected)
    assert 0 < found.lengths.min() < 10, "the filter leaves some lists short"
    allowed = set(allow) - set(deny)
    for history, list_ in zip(histories, found.to_lists()):
        assert {item["id"] for item in list_} <= allowed - set(history)
        assert all(int(item["id"][1:]) % 9 in (1, 2, 4) for item in list_)


def test_unknown_items_are_an_error_or_left_out(bundle, folder, command, histories, tmp_path):
    with_unknown = [["never", *history, "heard"] for history in histories[:5]] + [["never"]]
    with pytest.raises(LookupError, match=r"histories\[0\]\[0\]: item \"never\" is not in the catalogue of 60 items"):
        bundle.recommend(with_unknown)
    expected = of_command(command, folder, with_unknown, tmp_path, "--unknown", "skip")
    found = bundle.recommend(with_unknown, unknown="skip")
    assert_same(found, expected)
    assert list(found.lengths) == [10] * 5 + [0]
    assert np.array_equal(found.items[:5], bundle.recommend(histories[:5]).items)
    with pytest.raises(LookupError, match=r"allow\[1\]: there is no item 60, only 0 to 59"):
        bundle.recommend(histories, allow=[3, 60])


@pytest.mark.parametrize(
    ("arguments", "fault", "words"),
    [
        (dict(histories=[["i1"], []]), ValueError, r"histories\[1\] is empty"),
        (dict(histories=[["i1"]], k=0), ValueError, "k is 0, expected 1 or more"),
        (dict(histories=[["i1"]], list="both"), ValueError, 'list is "both", expected "merged" or "behaviour"'),
        (dict(histories=[["i1"]], unknown="drop"), ValueError, 'unknown is "drop", expected "error" or "skip"'),
        (dict(histories=[["i1"]], categories=["c99"]), LookupError, 'no item has category "c99"'),
        (dict(histories=["i1", "i2"]), TypeError, r"histories\[0\] is 'i1', expected a list of items"),
        (dict(histories=[1, 2]), TypeError, r"histories\[0\] is 1, expected a list of items"),
        (dict(histories="i1"), TypeError, "histories is 'i1'"),
        (dict(histories=[[1.5]]), TypeError, r"histories\[0\]\[0\] is 1.5, expected an item's id"),
        (dict(histories=[[-1]]), LookupError, "there is no item -1, only 0 to 59"),
        (dict(histories=[["i1"]], allow="i1"), TypeError, "allow is 'i1', expected a list of items"),
        (dict(histories=[["i1"]], k=-1), OverflowError, "negative"),
    ],
)
def test_a_query_that_is_none_is_refused_with_words(bundle, arguments, fault, words):
    with pytest.raises(fault, match=words):
        bundle.recommend(**arguments)


def test_lists_do_not_depend_on_threads_or_neighbours(bundle, folder, histories):
    one = eager_rec.Bundle.load(folder, threads=1)
    three = eager_rec.Bundle.load(folder, threads=3)
    assert (one.threads, three.threads) == (1, 3)
    # More than are handed to Rust at a time.
    found, again, few = three.recommend(histories * 40), one.recommend(histories * 40), one.recommend(histories)
    for name in ("items", "scores", "behaviour", "semantic"):
        values = getattr(found, name)
        assert np.array_equal(values, getattr(again, name), equal_nan=True)
        # Matrix products of other heights round otherwise.
        for rows in np.split(values, 40):
            assert np.allclose(rows, getattr(few, name), rtol=0, atol=1e-5, equal_nan=True)


def test_other_threads_go_on_meanwhile(bundle, histories):
    results = []
    work = threading.Thread(target=lambda: results.append(bundle.recommend(histories * 100)))
    work.start()
    steps = 0
    while work.is_alive():
        steps += 1
    # With the interpreter's lock held there would be a handful: before and after the call.
    assert steps > 1000
    assert np.array_equal(results[0].items[:40], bundle.recommend(histories).items)


def test_no_users_are_no_lists(bundle):
    lists = bundle.recommend([])
    assert len(lists) == 0 and lists.items.shape == (0, 10) and lists.to_lists() == []
    assert lists.to_arrow().num_rows == 0
