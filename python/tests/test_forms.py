"""Histories in every form, and lists as arrays, dictionaries and tables."""

import numpy as np
import polars
import pyarrow as pa
import pytest


@pytest.fixture(scope="module")
def expected(bundle, histories):
    return bundle.recommend(histories)


def assert_equal(found, expected):
    assert np.array_equal(found.items, expected.items)
    assert np.array_equal(found.scores, expected.scores)


def test_lists_of_ids_and_numbers(bundle, histories, expected):
    numbers = [bundle.numbers(history) for history in histories]
    assert_equal(bundle.recommend(numbers), expected)
    assert_equal(bundle.recommend([list(map(int, history)) for history in numbers]), expected)
    assert_equal(bundle.recommend(tuple(history) for history in histories), expected)
    assert_equal(bundle.recommend([np.array(history) for history in histories]), expected)


@pytest.mark.parametrize("dtype", ["int32", "int64", "int16", "uint8"])
@pytest.mark.parametrize("left", [False, True])
def test_a_matrix_of_numbers(bundle, histories, expected, dtype, left):
    if dtype == "uint8":
        same = np.array([bundle.numbers(history[-1:]) for history in histories], dtype)
        assert_equal(bundle.recommend(same), bundle.recommend([history[-1:] for history in histories]))
        return
    matrix = np.full((len(histories), 30), -1, dtype)
    for row, history in zip(matrix, histories):
        numbers = bundle.numbers(history)
        row[slice(30 - len(numbers), 30) if left else slice(len(numbers))] = numbers
    assert_equal(bundle.recommend(matrix), expected)
    assert_equal(bundle.recommend(np.asfortranarray(matrix)), expected)
    matrix[3, 0 if not left else 29] = 60
    with pytest.raises(LookupError, match=r"histories\[3, \d+\]: there is no item 60"):
        bundle.recommend(matrix)


def forms_of_arrow(histories, numbers):
    """Histories as Arrow's arrays and tables."""
    lists = pa.array(histories)
    yield "list of strings", lists
    yield "large list of large strings", lists.cast(pa.large_list(pa.large_string()))
    yield "string views", lists.cast(pa.list_(pa.string_view()))
    yield "dictionary", pa.ListArray.from_arrays(lists.offsets, lists.values.dictionary_encode())
    yield "numbers", pa.array(numbers, pa.list_(pa.int32()))
    yield "chunks", pa.chunked_array([lists[:13], lists[13:13], lists[13:]])
    yield "table", pa.table({"history": lists, "other": range(len(histories))})
    yield "record batch", pa.record_batch({"history": lists})
    yield "polars series", polars.Series(histories)
    yield "polars categories", polars.Series(histories, dtype=polars.List(polars.Categorical))
    yield "polars frame", polars.DataFrame({"history": histories})
    yield "pandas frame", pa.table({"history": lists}).to_pandas()


def test_every_form_of_arrow(bundle, histories, expected):
    numbers = [bundle.numbers(history).tolist() for history in histories]
    for name, form in forms_of_arrow(histories, numbers):
        found = bundle.recommend(form)
        assert np.array_equal(found.items, expected.items), name
        assert np.array_equal(found.scores, expected.scores), name
    fixed = pa.array([history[-1:] for history in histories], pa.list_(pa.string(), 1))
    assert_equal(bundle.recommend(fixed), bundle.recommend([history[-1:] for history in histories]))


def test_arrow_that_is_no_histories(bundle):
    with pytest.raises(TypeError, match="expected lists of strings"):
        bundle.recommend(pa.array(["i1", "i2"]))
    with pytest.raises(TypeError, match="expected lists of strings"):
        bundle.recommend(pa.array([[1.5]]))
    with pytest.raises(ValueError, match="the table has columns user, items, expected `history`"):
        bundle.recommend(pa.table({"user": ["a"], "items": [["i1"]]}))
    with pytest.raises(ValueError, match=r"histories\[1\]\[1\] is null"):
        bundle.recommend(pa.array([["i1"], ["i2", None]]))
    with pytest.raises(LookupError, match=r"histories\[2\]\[1\]: item \"j\""):
        bundle.recommend(pa.chunked_array([[["i1"], ["i2"]], [["i1", "j"]]]))
    with pytest.raises(ValueError, match=r"histories\[1\] is empty"):
        bundle.recommend(pa.array([["i1"], None, []], pa.list_(pa.string())))
    lists = bundle.recommend(pa.array([["i1"], None, []], pa.list_(pa.string())), unknown="skip")
    assert list(lists.lengths) == [10, 0, 0]


def test_the_type_tells_where_there_is_no_row(bundle):
    lists = pa.list_(pa.string())
    schema = pa.schema({"user": pa.string(), "history": lists})
    for empty in (schema.empty_table(), pa.Table.from_batches([], schema)):
        found = bundle.recommend(empty)
        assert (len(found), found.users) == (0, [])
        assert found.to_arrow().schema.field("user").type == pa.string()
    assert bundle.recommend(pa.chunked_array([], lists)).users is None
    with pytest.raises(ValueError, match="the table has columns user, expected `history`"):
        bundle.recommend(pa.Table.from_batches([], pa.schema({"user": pa.string()})))
    for wrong in (pa.chunked_array([], pa.string()), pa.schema({"history": pa.string()}).empty_table()):
        with pytest.raises(TypeError, match="expected lists of strings"):
            bundle.recommend(wrong)


def test_a_user_without_a_name_is_told(bundle):
    names = pa.chunked_array([["a", "b"], ["c", None]])
    with pytest.raises(ValueError, match=r"user\[3\] is null"):
        bundle.recommend(pa.table({"user": names, "history": [["i1"]] * 4}))


def test_arrays_that_no_memory_holds(bundle):
    for k in (2**60, 2**63):
        lists = bundle.recommend([["i1"], ["i2"]], k)
        assert list(lists.lengths) == [60, 60] and len(lists[0]) == 60
        for name in ("items", "ids", "scores"):
            with pytest.raises(MemoryError, match=rf"shape \(2, {k}\); ask for a smaller k"):
                getattr(lists, name)


def test_arrays(bundle, histories):
    lists = bundle.recommend(histories, 70)
    assert len(lists) == len(histories)
    assert lists.items.dtype == np.int32 and lists.scores.dtype == np.float32
    for name in ("items", "ids", "scores", "behaviour", "semantic"):
        assert getattr(lists, name).shape == (len(histories), 70)
        assert getattr(lists, name) is getattr(lists, name), "made once"
    # There are no more items than 60: each list ends, and holds an item once.
    assert (lists.lengths == 60).all()
    assert (lists.items[:, 60:] == -1).all() and np.isnan(lists.scores[:, 60:]).all()
    assert set(lists.ids[:, 60:].ravel()) == {None}
    assert (np.sort(lists.items[:, :60], axis=1) == np.arange(60)).all()
    assert (np.array(bundle.item_ids)[lists.items[:, :60]] == lists.ids[:, :60]).all()
    assert (np.diff(lists.scores[:, :60], axis=1) <= 0).all(), "best first"
    best = np.fmax(lists.behaviour, lists.semantic)[:, :60]
    assert np.array_equal(best, lists.scores[:, :60]), "the confidence is the surer stream's"


def test_dictionaries_and_indices(bundle, histories):
    lists = bundle.recommend(histories[:3])
    assert [lists[at] for at in range(3)] == lists.to_lists() == list(lists)
    first = lists[0][0]
    assert list(first) == ["id", "title", "score", "behaviour", "semantic"]
    assert first["title"] == f"Item number {first['id'][1:]}"
    assert lists[-1] == lists[2]
    for index in (3, -4):
        with pytest.raises(IndexError, match="3"):
            lists[index]


def test_a_direct_head(bundle, direct, histories):
    assert bundle.recommend(histories).direct is None
    lists = direct.recommend(histories)
    assert lists.direct.shape == (len(histories), 10) and lists.direct is lists.direct
    parts = np.stack([lists.behaviour, lists.semantic, lists.direct])
    assert np.array_equal(np.nanmax(parts, axis=0), lists.scores), "the confidence is that of the surest"
    assert (np.isnan(lists.behaviour) & np.isnan(lists.semantic)).any(), "some are there by the head alone"
    first = lists[0]
    assert list(first[0]) == ["id", "title", "score", "behaviour", "semantic", "direct"]
    values = [None if np.isnan(value) else value for value in lists.direct[0].tolist()]
    assert [item["direct"] for item in first] == values
    table = lists.to_arrow()
    assert table.schema.names == ["user", "rank", "item", "score", "behaviour", "semantic", "direct"]
    assert table["direct"].null_count == np.isnan(lists.direct).sum()
    assert np.array_equal(table["direct"].to_numpy(), lists.direct.ravel(), equal_nan=True)


def test_tables(bundle, histories):
    users = [f"user {at}" for at in range(len(histories))]
    lists = bundle.recommend(pa.table({"user": users, "history": histories}))
    assert lists.users == users
    table = lists.to_arrow()
    assert table.schema.names == ["user", "rank", "item", "score", "behaviour", "semantic"]
    assert table["user"].to_pylist() == [user for user in users for _ in range(10)]
    assert table["rank"].to_pylist() == list(range(1, 11)) * len(users)
    assert table["item"].to_pylist() == lists.ids.ravel().tolist()
    assert np.array_equal(table["score"].to_numpy(), lists.scores.ravel())
    frame = polars.DataFrame(lists)
    assert frame.equals(polars.from_arrow(table))
    assert frame["behaviour"].null_count() == np.isnan(lists.behaviour).sum()
    # Without names users are numbered, and none is lost between the batches of a long table.
    many = bundle.recommend(histories * 200).to_arrow()
    assert many.num_rows == 80_000 and len(many.to_batches()) > 1
    assert many["user"].to_pylist() == [user for user in range(8000) for _ in range(10)]
    # Who takes them may want other types.
    wanted = table.schema.set(2, pa.field("item", pa.large_string(), nullable=False))
    assert pa.RecordBatchReader.from_stream(lists, wanted).read_all() == table.cast(wanted)
