"""Folders of features: what is wrong with one is said in one line, rows of any tool find their images."""

import hashlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shell import few_digits, refused, user_error

from config import CIFAR10, Config
from loader import key_rule, load_images, read_split
from pt4al.data import features
from pt4al.data.features import FILES, Wanted, listing_of, read_features, sizes_of
from pt4al.data.ids import by_last_three
from pt4al.data.transforms import column_statistics, normalizer

CPU = torch.device("cpu")
COLUMNS = 5
IDS = {
    "train": [f"./DATA/train/{i % 3}/{i}.png" for i in range(12)],
    "test": [f"./DATA/test/{i % 3}/{i}.png" for i in range(6)],
}
PLENTY = 2**40  # bytes of memory


def values_of(ids: list[str], columns: int = COLUMNS) -> np.ndarray:
    """Rows that follow from the ids: float32 (n, columns)."""
    rows = [hashlib.sha256(by_last_three(x).encode()).digest()[:columns] for x in ids]
    return np.array([[*row] for row in rows], np.float32) / 7


def write(folder: Path, split: str, ids: list[str], rows: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{FILES[split]}.npy", rows)
    (folder / f"{FILES[split]}.txt").write_text("".join(f"{x}\n" for x in ids))


def note(folder: Path, **more: object) -> None:
    """made_from.json, as utils/extract_features.py writes it."""
    names = [f"{name}.{kind}" for name in FILES.values() for kind in ("npy", "txt")]
    rows = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    content = {"backbone": "some_net", "weights": "0123456789abcdef", "rows": rows, **more}
    (folder / "made_from.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, ids in IDS.items():
        write(tmp_path / "features", split, ids, values_of(ids))
    return tmp_path / "features"


@pytest.fixture(params=[2**24, 100], ids=["a block", "blocks of five rows"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BLOCK_BYTES", request.param)


def read(
    folder: Path, ids: dict[str, list[str]] = IDS, memory_limit: int = PLENTY
) -> tuple[list[np.ndarray], str]:
    wanted = {split: Wanted(names, by_last_three, by_last_three) for split, names in ids.items()}
    return read_features(folder, wanted, memory_limit)[:2]


def what_is_there(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- what is wrong


def pool(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Put other rows in place of the pool's."""
    return lambda folder: np.save(folder / "pool.npy", change(values_of(IDS["train"])))


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return lambda folder: (folder / "pool.txt").write_text("\n".join(change([*IDS["train"]])) + "\n")


def put(row: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(rows: np.ndarray) -> np.ndarray:
        rows[row, 2] = value
        return rows

    return change


def data(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def in_place(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else of that name."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def archive(path: Path) -> None:
    with open(path, "wb") as file:  # numpy.savez would add an ending
        np.savez(file, rows=values_of(IDS["train"]))


def of_other_network(folder: Path) -> None:
    note(folder)
    np.save(folder / "test.npy", values_of(IDS["test"]) + 1)


def lines_sorted(folder: Path) -> None:
    note(folder)
    path = folder / "pool.txt"
    path.write_text("".join(sorted(path.read_text().splitlines(True), reverse=True)))


def other_columns(folder: Path) -> None:
    write(folder, "test", IDS["test"], values_of(IDS["test"], COLUMNS + 1))


def noted(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "made_from.json").write_text(text) and None


AGAIN = "numpy.save as float32 (n, d) in C order"
WRONG: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no folder": (shutil.rmtree, ("features is not a folder", "utils/extract_features.py")),
    "a file for a folder": (
        lambda folder: (shutil.rmtree(folder), folder.touch()), ("features is not a folder",)),
    "no pool.npy": (without("pool.npy"), ("pool.npy is not there", "12 images of the pool")),
    "no pool.txt": (without("pool.txt"), ("pool.txt is not there", "pool.npy")),
    "no test rows": (without("test.npy"), ("test.npy is not there", "6 test images")),
    "no test ids": (without("test.txt"), ("test.txt is not there",)),
    "a folder for pool.npy": (in_place("pool.npy", Path.mkdir), ("pool.npy is not there, or no file",)),
    "a folder for pool.txt": (in_place("pool.txt", Path.mkdir), ("pool.txt is not there, or no file",)),
    "a pipe for pool.npy": (in_place("pool.npy", os.mkfifo), ("pool.npy is not there, or no file",)),
    "ids missing": (
        lambda folder: write(folder, "train", IDS["train"][2:], values_of(IDS["train"][2:])),
        ("pool.txt names 10 of 12 images", IDS["train"][0])),
    "an id twice": (
        lines(lambda ids: [*ids[:7], ids[1], *ids[8:]]), ("pool.txt names", "twice, in lines 2 and 8", IDS["train"][1])),
    "an id twice in two spellings": (
        lines(lambda ids: [*ids[:7], "C:\\old\\train\\1\\1.jpg", *ids[8:]]), ("twice, in lines 2 and 8",)),
    "ids of another pool": (
        lines(lambda ids: [f"pool/{i}.png" for i in range(len(ids))]),
        ("names 0 of 12 images", "it names pool/0.png, ..., not", IDS["train"][0])),
    "the test set's ids": (lines(lambda ids: [x.replace("train", "test") for x in ids]), ("names 0 of 12",)),
    "more lines than rows": (lines(lambda ids: [*ids, "x"]), ("pool.txt has 13 lines and pool.npy 12 rows",)),
    "fewer lines than rows": (lines(lambda ids: ids[:-1]), ("pool.txt has 11 lines and pool.npy 12 rows",)),
    "no lines": (data("pool.txt", lambda _: b""), ("pool.txt has 0 lines",)),
    "NaN": (pool(put(3, np.nan)), ("pool.npy holds NaN or infinity", IDS["train"][3])),
    "a number whose square is none": (pool(put(2, -1e30)), ("beyond 1e+15", IDS["train"][2])),
    "infinity": (pool(put(0, np.inf)), ("NaN or infinity", IDS["train"][0])),
    "minus infinity": (pool(put(11, -np.inf)), ("NaN or infinity", IDS["train"][11])),
    "float16": (pool(lambda x: x.astype(np.float16)), ("pool.npy holds float16 (12, 5)", AGAIN)),
    "float64": (pool(lambda x: x.astype(np.float64)), ("holds float64 (12, 5)", AGAIN)),
    "big-endian": (pool(lambda x: x.astype(">f4")), ("holds >f4 (12, 5)", AGAIN)),
    "whole numbers": (pool(lambda x: x.astype(np.int32)), ("holds int32 (12, 5)", AGAIN)),
    "complex": (pool(lambda x: x.astype(np.complex64)), ("holds complex64", AGAIN)),
    "fields": (pool(lambda x: x.view([("a", "<f4")])), ("pool.npy holds", AGAIN)),
    "Fortran order": (pool(np.asfortranarray), ("Fortran order", "numpy.ascontiguousarray")),
    "one dimension": (pool(lambda x: x[:, 0].copy()), ("holds float32 (12,)", AGAIN)),
    "three dimensions": (pool(lambda x: x[:, :, None].copy()), ("holds float32 (12, 5, 1)", AGAIN)),
    "a scalar": (pool(lambda x: x[0, 0]), ("holds float32 ()", AGAIN)),
    "no columns": (pool(lambda x: x[:, :0]), ("holds float32 (12, 0)", AGAIN)),
    "no rows": (pool(lambda x: x[:0]), ("holds float32 (0, 5)", AGAIN)),
    "an archive": (in_place("pool.npy", archive), ("pool.npy is no array of numpy.save",)),
    "cut short": (data("pool.npy", lambda x: x[:-1]), ("pool.npy is cut short: 367 bytes", "takes 368")),
    "too long": (data("pool.npy", lambda x: x + b"\0"), ("pool.npy is too long: 369 bytes",)),
    "cut in its header": (data("pool.npy", lambda x: x[:50]), ("is no array of numpy.save",)),
    "empty": (data("pool.npy", lambda _: b""), ("is no array of numpy.save",)),
    "a text": (data("pool.npy", lambda _: b"0.5,0.25\n" * 40), ("is no array of numpy.save",)),
    "a version to come": (data("pool.npy", lambda x: x[:6] + b"\x09" + x[7:]), ("pool.npy is",)),
    "a header that is never closed": (
        data("pool.npy", lambda x: x.replace(b"(12, 5)", b"((12, 5")), ("is no array of numpy.save",)),
    "rows below zero": (data("pool.npy", lambda x: x.replace(b"(12, 5), ", b"(-12, 5),")), ("(-12, 5)", AGAIN)),
    "more rows told of": (data("pool.npy", lambda x: x.replace(b"(12, 5)", b"(92, 5)")), ("is cut short",)),
    "other columns to test": (other_columns, ("test.npy has 6 columns and pool.npy 5",)),
    "lines in another order": (lines_sorted, ("pool.txt is not the file that", "made_from.json")),
    "rows of another network to test": (of_other_network, ("test.npy is not the file that", "made_from.json")),
    "a note cut short": (noted('{"rows": '), ("made_from.json is damaged", "move it away")),
    "an empty note": (noted(""), ("made_from.json is damaged",)),
    "a note of something else": (noted("[1, 2]"), ("made_from.json is damaged, or none of utils/extract_features.py",)),
    "a note without hashes": (noted('{"backbone": "x"}'), ("made_from.json is damaged, or none of",)),
    "a note with a list of sizes": (noted('{"rows": {}, "sizes": [1]}'), ("made_from.json is damaged, or none of",)),
    "a folder for a note": (lambda folder: (folder / "made_from.json").mkdir(), ("made_from.json is damaged",)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_harmed(folder: Path, name: str):
    change, says = WRONG[name]
    change(folder)
    before = what_is_there(folder)
    with user_error(str(folder), *says):
        read(folder)
    assert what_is_there(folder) == before


def test_what_is_made_right_is_read(folder: Path):
    """The folder that those above have damaged."""
    rows, origin = read(folder)
    assert [x.tolist() for x in rows] == [values_of(ids).tolist() for ids in IDS.values()]
    assert origin == "rows of another tool" and rows[0].dtype == np.float32
    note(folder)
    assert read(folder)[1] == "some_net (weights 01234567)"


@pytest.mark.parametrize("as_array", [True, False], ids=["an array of objects", "a pickle"])
def test_no_pickle_is_opened(folder: Path, tmp_path: Path, as_array: bool):
    evil = Evil(str(tmp_path / "opened"))
    if as_array:
        array = np.empty((12, 5), object)
        array[:] = evil
        np.save(folder / "pool.npy", array, allow_pickle=True)
    else:
        (folder / "pool.npy").write_bytes(pickle.dumps(evil))
    with user_error(
        "pool.npy", "object" if as_array else "no array", *(["never opened"] if as_array else [])
    ):
        read(folder)
    assert not (tmp_path / "opened").exists()
    np.load(folder / "pool.npy", allow_pickle=True)  # which would have
    assert (tmp_path / "opened").exists()


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (Path(self.path),)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=3), st.integers(1, 3))
def test_a_damaged_header_is_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes, version: int
):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array(file, values_of(IDS["train"]), version=(version, 0))
    whole = path.read_bytes()
    path.write_bytes((whole[:at] + damage + whole[at + len(damage) :])[: len(whole)])
    try:
        assert features.shape_of(path)[:2] == (12, 5)
    except features.UserError as error:
        assert str(path) in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_what_may_not_be_read(folder: Path):
    (folder / "pool.npy").chmod(0)
    with pytest.raises(PermissionError):  # which run_script says in one line
        read(folder)


# --- what is right


def test_rows_of_any_order_and_of_other_images(folder: Path, blocks: None):
    ids = [*IDS["train"], *(f"./DATA/train/9/{i}.png" for i in range(20))]
    random.Random(1).shuffle(ids)
    rows = values_of(ids)
    rows[ids.index("./DATA/train/9/3.png")] = np.nan  # nobody asks for it
    write(folder, "train", ids, rows)
    (found, of_test), _ = read(folder)
    assert np.array_equal(found, values_of(IDS["train"])) and np.array_equal(of_test, values_of(IDS["test"]))
    again, _ = read(folder, memory_limit=0)
    assert isinstance(again[0], np.memmap) and np.array_equal(again[0], found)
    some = {"train": IDS["train"][5:2:-1], "test": []}  # a data set without a test set
    found, of_test = read(folder, some)[0]
    assert np.array_equal(found, values_of(some["train"])) and of_test.shape == (0, COLUMNS)


SPELLINGS: dict[str, Callable[[list[str]], bytes]] = {
    "CRLF and a BOM": lambda ids: b"\xef\xbb\xbf" + "".join(f"{x}\r\n" for x in ids).encode(),
    "no last line end": lambda ids: "\n".join(ids).encode(),
    "backslashes": lambda ids: "\n".join(x.replace("/", "\\") for x in ids).encode(),
    "another machine's folders": lambda ids: "\n".join(x.replace("./DATA", "/mnt/My data") for x in ids).encode(),
    "no endings": lambda ids: "\n".join(x.removesuffix(".png") for x in ids).encode(),
    "other endings": lambda ids: "\n".join(x.replace(".png", ".JPEG") for x in ids).encode(),
    "the last three parts": lambda ids: "\n".join(x.removeprefix("./DATA/") for x in ids).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_ids_may_be_spelled_as_other_tools_do(folder: Path, name: str):
    (folder / "pool.txt").write_bytes(SPELLINGS[name](IDS["train"]))
    assert np.array_equal(read(folder)[0][0], values_of(IDS["train"]))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(folder: Path, version: tuple[int, int]):
    with open(folder / "pool.npy", "wb") as file:
        np.lib.format.write_array(file, values_of(IDS["train"]), version=version)
    assert np.array_equal(read(folder)[0][0], values_of(IDS["train"]))


# --- data sets


def photographs(folder: Path) -> list[str]:
    """A pool of photographs at some depth; names without their endings, relative to the folder."""
    names = ["pool/a/b/1", "pool/a/1", "pool/2", "pool/pool/3", "pool/Müller/4", "pool/leaf.rgb"]
    for i, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (i, 2 * i, 3 * i)).save(path)
    return names


PATHS: dict[str, Callable[[str], str]] = {
    "as ids": lambda x: f"{x}.png",
    "without endings": lambda x: x,
    "below pool/": lambda x: x.removeprefix("pool/") + ".png",
    "from here": lambda x: f"./{x}.png",
    "from anywhere above": lambda x: f"/home/me/pool/photos/{x}.png",
    "of Windows": lambda x: f"C:\\me\\{x}.png".replace("/", "\\"),
    "decomposed": lambda x: f"{x}.png".replace("ü", "u\u0308"),
}


@pytest.mark.parametrize("name", PATHS)
def test_photographs_are_named_from_anywhere_above(tmp_path: Path, name: str):
    names = photographs(tmp_path / "photos")
    config = replace(CIFAR10, dataset="unlabeled", data_dir=str(tmp_path / "photos"))
    rows = values_of(names)
    write(tmp_path / "f", "train", list(map(PATHS[name], reversed(names))), rows[::-1].copy())
    images, test = load_images(config, CPU, features=str(tmp_path / "f"))
    assert [x.removesuffix(".png") for x in images.ids] == sorted(names, key=lambda x: f"{x}.png")
    assert torch.equal(images.pixels, torch.from_numpy(rows[[names.index(x.removesuffix(".png")) for x in images.ids]]))  # fmt: skip
    assert len(test) == 0 and images.features == "rows of another tool"


def test_photographs_of_one_name_are_not_mixed_up(tmp_path: Path):
    """pool/a/1 and pool/a/b/1: a name alone tells neither."""
    names = photographs(tmp_path / "photos")
    config = replace(CIFAR10, dataset="unlabeled", data_dir=str(tmp_path / "photos"))
    write(tmp_path / "f", "train", [x.rpartition("/")[2] for x in names], values_of(names))
    with user_error("names 2 of 6 images", "pool/Müller/4.png is missing"):
        load_images(config, CPU, features=str(tmp_path / "f"))


def digits_and_rows(folder: Path) -> Config:
    """The few digits, and rows of another tool for them, in an order of its own."""
    config = replace(CIFAR10, dataset="folder", data_dir=few_digits())
    for split in FILES:
        ids = read_split(config, split).names
        random.Random(2).shuffle(ids)
        write(folder, split, ids, values_of(ids))
    return config


def test_a_data_set_by_its_features(tmp_path: Path):
    config = digits_and_rows(tmp_path / "f")
    plain, by_features = load_images(config, CPU), load_images(config, CPU, features=str(tmp_path / "f"))
    for a, b in zip(plain, by_features, strict=True):
        assert a.ids == b.ids and a.classes == b.classes and torch.equal(a.labels, b.labels)
        assert np.array_equal(b.pixels, values_of(a.ids)) and b.are_features and not a.are_features
    mapped = load_images(replace(config, resident_share=0.0), CPU, features=str(tmp_path / "f"))
    assert [x.streams for x in mapped] == [True, True]
    assert [x.fingerprint() for x in mapped] == [x.fingerprint() for x in by_features]
    parts = [torch.tensor([5, 1]), torch.tensor([99])]
    for a, b in zip(by_features[0].stream(parts), mapped[0].stream(parts), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_of_a_long_tail_all_rows_are_there_and_some_are_kept(tmp_path: Path):
    config = replace(digits_and_rows(tmp_path / "f"), imbalance=5.0)
    (plain,) = load_images(config, CPU, ("train",))
    (pool,) = load_images(config, CPU, ("train",), features=str(tmp_path / "f"))
    assert plain.ids == pool.ids and len(pool) < 100 and np.array_equal(pool.pixels, values_of(pool.ids))


def test_other_images_under_the_same_names_are_said(tmp_path: Path, capsys: pytest.CaptureFixture):
    """A camera counts from 1 again: other bytes together than the features were made from."""
    config = digits_and_rows(tmp_path / "f")
    sizes = {x: sum(path.stat().st_size for path in read_split(config, x).images) for x in FILES}
    for sizes_, warned in ((sizes, []), ({**sizes, "test": 1 + sizes["test"]}, ["f/test.npy"]), ({}, [])):
        note(tmp_path / "f", sizes=sizes_)
        load_images(config, CPU, features=str(tmp_path / "f"))
        said = [line for line in capsys.readouterr().out.splitlines() if "made from other images" in line]
        assert len(said) == len(warned)
        assert all(
            name in line and f"{sizes['test']:,}" in line for name, line in zip(warned, said, strict=True)
        )


def test_images_that_were_replaced_or_swapped_since_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Told by name and size; of a part of the images, or as another data set, that is not known."""
    config = digits_and_rows(tmp_path / "f")
    read = {x: read_split(config, x) for x in FILES}
    keys = {x: [*map(key_rule(config, x), y.names)] for x, y in read.items()}
    sizes = {x: sizes_of(y.images) for x, y in read.items()}
    now = {x: listing_of(keys[x], sizes[x]) for x in FILES}
    assert listing_of(keys["train"][::-1], sizes["train"][::-1]) == now["train"]
    note(tmp_path / "f", listings=now, dataset=config.dataset, sizes={x: sum(y) for x, y in sizes.items()})
    load_images(config, CPU, features=str(tmp_path / "f"))
    swapped = sizes["test"][:]
    i = next(i for i, size in enumerate(swapped) if size != swapped[0])
    swapped[0], swapped[i] = swapped[i], swapped[0]
    then = {**now, "test": listing_of(keys["test"], swapped)}
    note(tmp_path / "f", listings=then, dataset=config.dataset, sizes={x: sum(y) for x, y in sizes.items()})
    with user_error("f/test.npy was made from other images", "--restart"):
        load_images(config, CPU, features=str(tmp_path / "f"))
    note(tmp_path / "f", listings=then, dataset="unlabeled", sizes={})
    load_images(config, CPU, features=str(tmp_path / "f"))
    assert capsys.readouterr().out == ""


def test_the_source_of_features_is_known_by_what_they_were_made_from(tmp_path: Path):
    """Whatever their last digits. Another network, other pictures or other ids are another source."""
    config, made = digits_and_rows(tmp_path / "f"), {}
    whole = {
        "backbone": "a", "weights": "w", "preprocessing": {"crop_pct": 1}, "data": {"train": "x", "test": "y"},
    }  # fmt: skip
    others = {
        "as it is": {}, "network": {"weights": "v"}, "crop": {"preprocessing": {"crop_pct": 2}},
        "pictures": {"data": {"train": "z", "test": "y"}}, "unknown": {"data": None}, "odd": {"data": 3},
    }  # fmt: skip
    for name, change in others.items():
        note(tmp_path / "f", **{**whole, **change})
        made[name] = load_images(config, CPU, features=str(tmp_path / "f"))
    pools = [made[name][0].source_digest() for name in others]
    assert pools[4:] == [None, None] and len(set(pools)) == 5
    assert made["as it is"][1].source_digest() == made["pictures"][1].source_digest() not in (None, *pools)
    (tail,) = load_images(replace(config, imbalance=5.0), CPU, ("train",), str(tmp_path / "f"))
    assert tail.source_digest() is None  # of "odd", the last
    first = made["as it is"][0]
    rounded, renamed = replace(first, pixels=first.pixels + 1e-6), replace(first, ids=first.ids[::-1])
    assert rounded.source_digest() == pools[0] != renamed.source_digest()
    assert rounded.fingerprint() != first.fingerprint()


# --- columns


def test_columns_that_hardly_vary_give_no_nan():
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    rows[:, 1], rows[:, 2], rows[:, 3] = 0, 1e8, 1e30
    rows[:, 4] = 0
    rows[7, 4] = 1e-45  # the smallest number
    rows[:, 5] = 0
    rows[7, 5] = 1e-20
    mean, std = column_statistics(rows)
    normalized = normalizer(mean, std, CPU)(rows)
    assert normalized.isfinite().all() and not normalized[:, 1:5].abs().max() > 1e-6
    expected = rows[:, 0].double()
    assert mean[0] == pytest.approx(expected.mean().item()) and std[:5] == [
        pytest.approx(expected.std(correction=0).item()), 1.0, 1.0, 1.0, 1.0]  # fmt: skip
    assert normalized[7, 5] == pytest.approx(39**0.5, rel=1e-5)  # it varies, however little


# --- through the scripts


@pytest.mark.slow
def test_the_scripts_say_it_in_one_line(tmp_path: Path):
    flags = ["--features", "f", "--first-pick", "random", "--candidates", "all", "--strategy", "random"]
    refused(tmp_path, "main.py", *flags, says="features: f is not a folder")
    digits_and_rows(tmp_path / "f")
    whole = shutil.copytree(tmp_path / "f", tmp_path / "whole")
    (tmp_path / "f/pool.npy").unlink()
    (tmp_path / "f/pool.npy").mkdir()
    refused(tmp_path, "whole_dataset.py", *flags, says="f/pool.npy is not there, or no file")
    (tmp_path / "f/pool.npy").rmdir()
    shutil.copy(whole / "pool.npy", tmp_path / "f/pool.npy")
    note(tmp_path / "f")
    np.save(tmp_path / "f/test.npy", np.load(whole / "test.npy") + 1)
    refused(tmp_path, "main_pt4al.py", *flags, says=("f/test.npy is not the file that f/made_from.json",))
