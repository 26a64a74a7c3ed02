import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from shell import rows, run, times

from pt4al.base.console import UserError
from pt4al.data.ids import by_last_three, by_path, sort_classes
from pt4al.method.batches import read_batches, read_losses, sort_pool, split

NAME = st.text(
    st.characters(exclude_characters="/\\\n\r", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=12,
)


def test_numeric_sort_is_descending_with_ties_in_pool_order():
    assert sort_pool(["0.5", "9.9e-05", "4.41", "0.5", "10.0"], "numeric", 0, 10).tolist() == [
        4,
        2,
        0,
        3,
        1,
    ]


def test_lexicographic_sort_puts_tiny_losses_first():
    assert sort_pool(["0.5", "9.9e-05", "4.41", "10.0"], "lexicographic", 0, 10).tolist() == [
        1,
        2,
        3,
        0,
    ]


@given(st.lists(st.floats(0, 10).map(str), min_size=1, max_size=300))
def test_lexicographic_sort_is_the_released_expression(texts: list[str]):
    released = np.argsort(np.array(texts)).tolist()
    released.reverse()
    assert sort_pool(texts, "lexicographic", 0, 10).tolist() == released


@given(st.lists(st.floats(0, 10).map(str), min_size=1, max_size=100))
def test_numeric_sort_is_a_stable_descending_permutation(texts: list[str]):
    order = sort_pool(texts, "numeric", 0, 10).tolist()
    assert order == sorted(range(len(texts)), key=lambda i: (-float(texts[i]), i))


def test_controls_are_the_reverse_and_a_shuffle():
    """Easiest first has its ties in pool order too; the shuffle knows the seed and no loss."""
    texts = ["0.5", "9.9e-05", "4.41", "0.5", "10.0"]
    assert sort_pool(texts, "ascending", 0, 10).tolist() == [1, 0, 3, 2, 4]
    many = [str(x / 500) for x in range(500)]
    orders = [sort_pool(many, "shuffled", seed, 10).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(500))
    assert sort_pool(many[::-1], "shuffled", 0, 10).tolist() == orders[0]
    # Kendall's tau of two independent orders of 500 has a standard deviation of 0.03.
    assert abs(kendalltau(orders[0], range(500)).statistic) < 0.15


@given(st.lists(st.floats(0, 10).map(str), min_size=1, max_size=100), st.integers(1, 12))
def test_interleaved_deals_the_numeric_order_out(texts: list[str], parts: int):
    assume(parts <= len(texts))
    ranked = [str(i) for i in sort_pool(texts, "numeric", 0, parts)]
    dealt = split([str(i) for i in sort_pool(texts, "interleaved", 0, parts)], parts)
    assert dealt == [ranked[i::parts] for i in range(parts)]


@given(st.integers(1, 300), st.integers(1, 40))
def test_split_is_a_partition_in_order_with_even_sizes(n: int, parts: int):
    items = [str(i) for i in range(n)]
    if parts > n:
        with pytest.raises(UserError):
            split(items, parts)
        return
    batches = split(items, parts)
    assert [x for batch in batches for x in batch] == items
    sizes = [len(batch) for batch in batches]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1 and len(batches) == parts


@pytest.mark.parametrize(
    ("image_id", "key"),
    [
        ("./DATA/train/8/23583.png", "train/8/23583"),
        ("/other/machine/train/8/23583.jpg", "train/8/23583"),
        ("C:\\data\\train\\8\\23583.PNG", "train/8/23583"),
        ("./DATA/train/n01_a@b/x_y.z@1.JPEG", "train/n01_a@b/x_y.z@1"),
        ("train/8/23583", "train/8/23583"),
        ("train/8/v1.2", "train/8/v1.2"),
        ("./DATA/train/fish/a b é.tif", "train/fish/a b é"),
    ],
)
def test_a_key_is_the_last_three_parts_without_the_extension(image_id: str, key: str):
    assert by_last_three(image_id) == key


@given(NAME, NAME, st.lists(NAME, max_size=3))
def test_a_key_forgets_where_the_data_lie(class_name: str, name: str, folders: list[str]):
    there = "/".join([*folders, "train", class_name, name + ".png"])
    assert (
        by_last_three(there)
        == by_last_three(f"./DATA/train/{class_name}/{name}.jpg")
        == f"train/{class_name}/{name}"
    )


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.sampled_from("_@"), NAME),
        min_size=1,
        max_size=20,
        unique_by=lambda line: by_last_three(f"train/0/{line[2]}"),
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_loss_files_read_back_whatever_the_ids_hold(lines: list[tuple[float, str, str]], end: str):
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        path = Path(file.name)
        path.write_bytes(
            end.join(f"{loss}{mark}./DATA/train/0/{name}" for loss, mark, name in lines).encode()
        )
        texts, ids = read_losses(path)
    assert [float(t) for t in texts] == [loss for loss, _, _ in lines]
    assert ids == [f"./DATA/train/0/{name}" for _, _, name in lines]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_one_line(data: bytes):
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        path.write_bytes(data)
        try:
            texts, ids = read_losses(path)
        except UserError:
            return
        assert len(texts) == len(ids) > 0 and all(0 <= float(t) < np.inf for t in texts)


LINE = st.sampled_from(["train/0/0", "./DATA/train/0/1.png", "C:\\x\\train\\0\\2.JPG", "train/0/9"])


@given(st.one_of(st.binary(max_size=100), st.lists(st.one_of(LINE, NAME)).map("\n".join).map(str.encode)))
def test_any_batch_file_is_read_or_refused_with_one_line(data: bytes):
    where = {f"train/0/{i}": i for i in range(3)}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "batch_0.txt").write_bytes(data)
        try:
            (batch,) = read_batches(Path(folder), 1, where)
        except UserError as refused:
            assert "batch_0.txt" in str(refused)
            return
    assert batch and len(set(batch)) == len(batch) and set(batch) <= {0, 1, 2}


@given(st.text(max_size=60))
def test_any_id_has_a_key_of_three_parts_at_most(image_id: str):
    key = by_last_three(image_id)
    assert key.count("/") <= 2 and "\\" not in key
    if key.count("/") == 2:
        assert by_last_three(f"/elsewhere/{key}.png") == key


def test_batches_are_looked_up_by_key_and_refused_when_wrong(tmp_path: Path):
    where = {f"train/0/{i}": i for i in range(4)}
    (tmp_path / "batch_0.txt").write_text("./DATA/train/0/3.png\r\n./DATA/train/0/1.png")
    (tmp_path / "batch_1.txt").write_text("/elsewhere/train/0/0.jpg\n/elsewhere/train/0/2.jpg\n")
    assert read_batches(tmp_path, 2, where) == [[3, 1], [0, 2]]
    with pytest.raises(UserError, match="batch_1.txt exists but num_batches is 1"):
        read_batches(tmp_path, 1, where)
    with pytest.raises(UserError, match="batch_2.txt does not exist"):
        read_batches(tmp_path, 3, where)
    (tmp_path / "batch_1.txt").write_text("./DATA/train/0/3.png\n")
    with pytest.raises(UserError, match="batch_1.txt line 1: .* stands in .*batch_0.txt line 1 already"):
        read_batches(tmp_path, 2, where)
    (tmp_path / "batch_1.txt").write_text("./DATA/train/0/9.png\n")
    with pytest.raises(UserError, match="not in the pool"):
        read_batches(tmp_path, 2, where)


@pytest.mark.parametrize("separator", [" ", ",", ", ", "; ", "\t"])
@pytest.mark.parametrize("ids", [
    ["./DATA/train/0/1.png", "./DATA/train/0/2.png"], ["a b/train/0/1", "a b/train/0/2", "a b/train/0/3"],
    ["./DATA/train/0/x 1.png", "./DATA/train/0/x 2.png"], ["D:\\train\\0\\1.png", "D:\\train\\0\\2.png"],
])  # fmt: skip
def test_a_line_of_several_ids_is_refused(tmp_path: Path, separator: str, ids: list[str]):
    """Not read as the last of them. Folders and files whose names hold blanks are no list."""
    where = {f"train/0/{name}": i for i, name in enumerate(("1", "2", "3", "x", "x 1", "x 2"))}
    (tmp_path / "batch_0.txt").write_text(f"my 1.png, pictures/train/0/x.png\n{separator.join(ids)}\n")
    with pytest.raises(UserError, match="batch_0.txt line 2 holds several image ids"):
        read_batches(tmp_path, 1, where)
    (tmp_path / "batch_0.txt").write_text("\n".join(["my 1.png, pictures/train/0/x.png", *ids]))
    assert len(read_batches(tmp_path, 1, where)[0]) == 1 + len(ids)
    with pytest.raises(UserError, match="batch_0.txt line 1: image .* is not in the pool"):
        read_batches(tmp_path, 1, {"pool/0": 0}, by_path)  # looked up by all of a line


def test_classes_sort_as_numbers_when_all_are():
    assert sort_classes(["10", "9", "1"]) == ["1", "9", "10"]
    assert sort_classes(["10", "9", "b"]) == ["10", "9", "b"]


@pytest.mark.parametrize("sort", ["numeric", "lexicographic"])
def test_make_batches_from_a_released_style_file(tmp_path: Path, sort: str):
    """Without weights or data set; ids stay as they are, wherever they point."""
    source = np.random.default_rng(0)
    losses = [str(x) for x in np.exp(source.normal(-4, 4, 1000))]
    ids = [f"/home/somebody/DATA/train/{i % 10}/{i}.png" for i in range(1000)]
    text = "".join(f"{loss}_{name}\n" for loss, name in zip(losses, ids, strict=True))
    (tmp_path / "given.txt").write_text(text)
    run(tmp_path, "make_batches.py", "--losses", "given.txt", "--sort", sort)
    folder = tmp_path / "loss/cifar10-seed0"
    if sort == "lexicographic":
        order = np.argsort(np.array(losses)).tolist()[::-1]
    else:
        order = sorted(range(1000), key=lambda i: -float(losses[i]))
    for i in range(10):
        expected = "".join(f"{ids[j]}\n" for j in order[100 * i : 100 * i + 100])
        assert (folder / f"batch_{i}.txt").read_text() == expected
    assert (folder / "rotation_loss.txt").read_text() == text
    counts = [
        [int(x) for name, x in row.items() if name != "batch"]
        for row in rows(folder / "class_distribution.csv")
    ]
    assert np.sum(counts, axis=0).tolist() == [100] * 10 and np.sum(counts, axis=1).tolist() == [100] * 10
    assert json.loads((folder / "made_from.json").read_text())["parameters"]["sort"] == sort
    before = times(folder)
    assert "finished" in run(tmp_path, "make_batches.py", "--losses", "given.txt", "--sort", sort).stdout
    assert times(folder) == before
