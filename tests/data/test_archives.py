"""Data sets as their archives unpack: names, keys, kinds, label base and order of planes as published."""

import mmap
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shell import differences, load_program, one_error, rows, run

from config import PRESETS, Config
from loader import load_images, read_split
from pt4al.base.console import UserError
from pt4al.data import imagenet64
from pt4al.data.decoding import Parts, resize_all
from pt4al.data.images import Images

CPU = torch.device("cpu")


def picture(path: Path, value: int = 0, mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> None:
    """A JPEG whose first channel is about `value`, and dark in the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 10, 0)).save(path, "JPEG", quality=95)


# --- Caltech-101

CLASSES = ["Faces", "Faces_easy", "Leopards", "accordion", *(f"class_{i:02}" for i in range(97))]


def caltech(folder: Path, classes: list[str] = CLASSES, images: int = 6) -> Path:
    """`101_ObjectCategories` as the archive has it: BACKGROUND_Google, with its stray file, among the classes."""
    root = folder / "101_ObjectCategories"
    for c, name in enumerate([*classes, "BACKGROUND_Google"]):
        for i in range(images):
            mode = "L" if (c, i) == (3, 1) else "RGB"
            picture(root / name / f"image_{i + 1:04}.jpg", 10 * i + 50, mode, (4, 3) if c > 3 else (30, 20))
    (root / "BACKGROUND_Google/tmp").write_text("")
    (root / "accordion/Thumbs.db").write_bytes(b"no picture")
    (root / ".DS_Store").write_bytes(b"no picture")
    (root / "notes.txt").write_text("")
    return root


@pytest.fixture(scope="module")
def caltech_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory; tests must not change it."""
    caltech(folder := tmp_path_factory.mktemp("caltech"))
    return folder


def test_caltech_is_split_by_file_name(caltech_data: Path):
    config = Config(dataset="caltech101", data_dir=str(caltech_data), img_size=16)
    pool, test = load_images(config, CPU)
    assert pool.classes == test.classes == CLASSES  # capitals first, as torchvision sorts them
    assert (len(pool), len(test)) == (505, 101)
    assert pool.ids[0] == f"{caltech_data}/train/Faces/image_0001.jpg"
    assert [x.split("/")[-1] for x in pool.ids[:5]] == [f"image_000{i}.jpg" for i in (1, 2, 3, 4, 6)]
    assert test.ids[3] == f"{caltech_data}/test/accordion/image_0005.jpg"
    assert torch.equal(test.labels, torch.arange(101)) and pool.labels.bincount().tolist() == [5] * 101
    grey = pool.pixels[pool.ids.index(f"{caltech_data}/train/accordion/image_0002.jpg")]
    assert (grey == grey[..., :1]).all() and abs(int(grey[0, 0, 0]) - 60) < 4
    red = test.pixels[3, 8, 8].int()
    assert abs(red[0] - 90) < 6 and red[2] < 6


@pytest.mark.parametrize("place", ["caltech101", "caltech-101", "."])
def test_caltech_is_found_where_it_is_unpacked(tmp_path: Path, caltech_data: Path, place: str):
    """torchvision makes the folder caltech101, the archive caltech-101; one that is empty counts for nothing."""
    (tmp_path / "caltech101").mkdir()
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "101_ObjectCategories").symlink_to(caltech_data / "101_ObjectCategories")
    split = read_split(Config(dataset="caltech101", data_dir=str(tmp_path)), "test")
    assert len(split.images) == 101 and str(split.images[0]).startswith(f"{tmp_path / place}/101_Object")


def test_what_is_no_caltech_is_said(tmp_path: Path, capsys: pytest.CaptureFixture):
    config = Config(dataset="caltech101", data_dir=str(tmp_path / "data"))
    with pytest.raises(
        UserError, match=r"no 101_\w+ in .*data, nor in its folder caltech101 or caltech-101: unpack .*zip of"
    ):
        read_split(config, "train")
    root = caltech(tmp_path / "data/caltech101", [*CLASSES[:3], "accordion", "stray"])
    shutil.copytree(root, tmp_path / "data/caltech-101/101_ObjectCategories")
    with pytest.raises(UserError, match=r"caltech-101/101_\w+ and .*caltech101/101_\w+ are both there"):
        read_split(config, "train")
    shutil.rmtree(tmp_path / "data/caltech-101")
    capsys.readouterr()
    assert len(read_split(config, "train").classes) == 5
    assert "holds 5 class folders, not 101: each counts as a class" in capsys.readouterr().out
    shutil.rmtree(root / "stray")
    (root / "stray").mkdir()
    with pytest.raises(UserError, match="stray holds no image"):
        read_split(config, "train")


# --- Tiny-ImageNet

WNIDS = ["n02124075", "n01443537", "n07583066"]  # in the archive's order, which is that of no sort


def tiny(folder: Path, line_end: str = "\n") -> Path:
    root = folder / "tiny-imagenet-200"
    for c, name in enumerate(WNIDS):
        for i in range(4):
            mode = "L" if (c, i) == (1, 2) else "RGB"
            picture(root / "train" / name / "images" / f"{name}_{i}.JPEG", 40 * c + i, mode, (64, 64))
        (root / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t63\t63\n")
    lines = []
    for i in range(6):
        picture(root / "val/images" / f"val_{i}.JPEG", 40 * (i % 3), "RGB", (64, 64))
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t32\t44\t62{line_end}")
    picture(root / "test/images/test_0.JPEG")
    (root / "val/val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    (root / "words.txt").write_text("n00001740\tentity\n")
    return root


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_tiny_imagenet_is_tested_by_its_validation_set(tmp_path: Path, line_end: str):
    tiny(tmp_path, line_end)
    config = Config(dataset="tiny-imagenet", data_dir=str(tmp_path), img_size=64)
    pool, test = load_images(config, CPU)
    assert pool.classes == test.classes == sorted(WNIDS)
    assert (len(pool), len(test)) == (12, 6)
    assert pool.ids[0] == f"{tmp_path}/train/n01443537/n01443537_0.JPEG"
    assert [x.split("/", 1)[1] for x in (y.removeprefix(str(tmp_path)) for y in test.ids)] == [
        "test/n01443537/val_1.JPEG", "test/n01443537/val_4.JPEG", "test/n02124075/val_0.JPEG",
        "test/n02124075/val_3.JPEG", "test/n07583066/val_2.JPEG", "test/n07583066/val_5.JPEG",
    ]  # fmt: skip
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for images in (pool, test):  # 40 of red a class, in the archive's order
        red = torch.tensor([40 * WNIDS.index(images.classes[label]) for label in images.labels])
        assert (images.pixels[:, 32, 32, 0].int() - red).abs().max() < 8
    # In the data directory itself, too.
    same = load_images(replace(config, data_dir=str(tmp_path / "tiny-imagenet-200")), CPU)
    assert torch.equal(same[1].pixels, test.pixels)


def annotate(root: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = root / "val/val_annotations.txt"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "val/val_annotations.txt").unlink(), r"no val/val_annotations.txt in .*: unpack"),
        (lambda root: (root / "val/images/val_3.JPEG").unlink(), r"line 4: no picture val_3.JPEG in .*val/images"),
        (lambda root: shutil.rmtree(root / "train" / WNIDS[1]), r"line 2: no class 'n01443537'"),
        (lambda root: (root / "val/val_annotations.txt").write_text("val_0.JPEG\n"), r"line 1: no class ''"),
        (lambda root: shutil.rmtree(root / "train" / WNIDS[0] / "images"), r"n02124075/images is not a folder"),
        (lambda root: annotate(root, lambda lines: lines[:-1]), r"lacks 1 pictures, as val_5.JPEG"),
        (lambda root: annotate(root, lambda lines: lines[:2] + lines[:1]), r"line 3: no picture val_0.JPEG .*twice"),
        (lambda root: annotate(root, lambda lines: [f"../images/{lines[0]}"]), r"line 1: no picture \.\./images/val"),
        (lambda root: annotate(root, lambda lines: []), r"lacks 6 pictures"),
        (lambda root: shutil.rmtree(root / "val/images"), r"line 1: no picture val_0.JPEG"),
    ],
)  # fmt: skip
def test_what_is_missing_of_tiny_imagenet_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
):
    spoil(tiny(tmp_path))
    with pytest.raises(UserError, match=said):
        for split in ("train", "test"):
            read_split(Config(dataset="tiny-imagenet", data_dir=str(tmp_path)), split)


# --- ImageNet at 64 pixels


class OldPickler(pickle._Pickler):
    """Bytes as Python 2 wrote them: as its text."""

    dispatch = {**pickle._Pickler.dispatch}  # noqa: RUF012

    def save_bytes(self, text: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = save_bytes


def part(n: int, first: int = 0) -> dict[str, object]:
    """n images, of which image i has the label 1 + 7 i, and tells its number, row, column and plane."""
    data = np.zeros((n, 3, 64, 64), np.uint8)
    number = np.arange(first, first + n)
    data[:, 0] = number[:, None, None]
    data[:, 1] = np.arange(64)[:, None]
    data[:, 2] = 100 + np.arange(64)
    labels = [int(label) for label in number * 7 % 1000 + 1]
    return {"data": data.reshape(n, 12288), "labels": labels, "mean": data.reshape(n, 12288).sum(0) / 1.0}


def write_pickle(path: Path, content: object, protocol: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))


def downsampled(folder: Path, protocol: int = 3, sizes: tuple[int, ...] = (3,) * 9 + (5,)) -> Path:
    """Ten parts of which the last takes the rest, and val_data, which has no mean."""
    for i, n in enumerate(sizes):
        write_pickle(folder / f"train_data_batch_{i + 1}", part(n, sum(sizes[:i])), protocol)
    val = part(4, 100)
    del val["mean"]
    write_pickle(folder / "val_data", val, protocol)
    return folder


def check_downsampled(pool: Images, test: Images) -> None:
    assert (len(pool), len(test)) == (32, 4) and len(pool.classes) == 1000
    assert pool.labels.tolist() == [7 * i for i in range(32)]
    assert test.labels.tolist() == [7 * i % 1000 for i in range(100, 104)]
    assert (pool.classes[0], pool.classes[-1]) == ("1", "1000")
    assert [x.split("/")[-2:] for x in (pool.ids[31], test.ids[2])] == [["218", "31.png"], ["715", "2.png"]]
    for images, first in ((pool, 0), (test, 100)):
        for i, image in enumerate(images.pixels):
            assert image[5, 9].tolist() == [first + i, 5, 109]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_parts_are_read_of_every_pickle_protocol(tmp_path: Path, protocol: int):
    downsampled(tmp_path, protocol)
    config = replace(PRESETS["imagenet64"], data_dir=str(tmp_path))
    check_downsampled(*load_images(config, CPU))


def test_parts_of_python_2_are_read(tmp_path: Path):
    downsampled(tmp_path)
    with open(tmp_path / "train_data_batch_2", "wb") as file:
        OldPickler(file, 2).dump(part(3, 3))
    content = part(3, 6)
    content["labels"] = [np.int64(label) for label in content["labels"]]  # numbers of numpy
    write_pickle(tmp_path / "train_data_batch_3", content)
    content = {**part(3, 9), "labels": np.array(part(3, 9)["labels"], ">i4")}
    write_pickle(tmp_path / "train_data_batch_4", content)
    write_pickle(
        tmp_path / "train_data_batch_5", {**part(3, 12), "data": np.asfortranarray(part(3, 12)["data"])}
    )
    config = replace(PRESETS["imagenet64"], data_dir=str(tmp_path))
    check_downsampled(*load_images(config, CPU))


def test_npz_parts_lie_in_the_folders_of_their_archives(tmp_path: Path):
    source = downsampled(tmp_path / "pickles")
    for i in range(1, 11):
        folder = tmp_path / f"DATA/Imagenet64_train_part{1 + i // 6}_npz"
        folder.mkdir(parents=True, exist_ok=True)
        content = pickle.loads((source / f"train_data_batch_{i}").read_bytes())
        save = np.savez if i % 2 else np.savez_compressed
        save(folder / f"train_data_batch_{i}.npz", **content)
    (tmp_path / "DATA/Imagenet64_val_npz").mkdir()
    np.savez(tmp_path / "DATA/Imagenet64_val_npz/val_data.npz", **part(4, 100))
    # Content decides, not the name.
    shutil.move(folder / "train_data_batch_10.npz", folder / "train_data_batch_10")
    config = replace(PRESETS["imagenet64"], data_dir=str(tmp_path / "DATA"))
    check_downsampled(*load_images(config, CPU))
    assert isinstance(read_split(config, "train").images, Parts)  # for names alone no pixel is kept
    small = load_images(replace(config, img_size=32, crop_padding=4), CPU, ("test",))[0]
    assert small.pixels.shape == (4, 32, 32, 3)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def spoiled(n: int, **content: object) -> bytes:
    return pickle.dumps({**part(n), **content}, 3)


def in_itself() -> bytes:
    labels: list[object] = [1]
    labels.append(labels)
    return spoiled(2, labels=labels)


NO_PART, REFUSED = "is no part of ImageNet at 64 pixels", "is not allowed in it"
DAMAGE = {
    "a pickle that runs code": (lambda ran: pickle.dumps({**part(3), "mean": Evil(ran)}), REFUSED),
    "an object": (lambda _: pickle.dumps({"labels": Path("x")}, 2), REFUSED),
    "a codec": (lambda _: b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "rot13"),
    "a state for a function": (
        lambda _: b"\x80\x02c_codecs\nencode\nN}X\x04\x00\x00\x00evilK\x01s\x86b.", "a state of something"),
    "a set": (lambda _: pickle.dumps({"data": {1}, "labels": [1]}, 4), NO_PART),
    "objects in an array": (lambda _: spoiled(3, labels=np.array([None] * 3)), "numbers of kind 'O8'"),
    "a deep key": (lambda _: b"\x80\x02})" + b"\x85" * 3_000_000 + b"K\x01s.", "a key that is no text"),
    "a far place in the memo": (lambda _: b"\x80\x02}r\x80\xd1\xf0\x08.", "it holds no 'labels'"),
    "more bytes than there are": (lambda _: b"\x80\x05\x96" + b"\xff" * 6 + b"\x00\x00.", NO_PART),
    "cut short": (lambda _: spoiled(3)[:20000], "cut short"),
    "empty": (lambda _: b"", "cut short"),
    "text": (lambda _: b"<html>login needed</html>", NO_PART),
    "no dict": (lambda _: pickle.dumps([1, 2]), "it holds no 'labels'"),
    "no labels": (lambda _: pickle.dumps({"data": part(3)["data"]}), "it holds no 'labels'"),
    "no data": (lambda _: pickle.dumps({"labels": [1, 2, 3]}), "it holds no 'data'"),
    "labels from 0": (lambda _: spoiled(3, labels=[0, 1, 2]), "labels from 0 to 2: they must be from 1 to 1000"),
    "labels to 1001": (lambda _: spoiled(3, labels=[1, 1001, 2]), "labels from 1 to 1001"),
    "labels with points": (lambda _: spoiled(3, labels=[1.0, 2.0, 3.0]), "labels of float64"),
    "labels as text": (lambda _: spoiled(3, labels=["1", "2", "3"]), "labels of <U1"),
    "one label": (lambda _: spoiled(3, labels=5), r"labels of int64 \(\): they must be whole numbers"),
    "nothing for labels": (lambda _: spoiled(3, labels=None), r"labels of object \(\)"),
    "ragged labels": (lambda _: spoiled(3, labels=[1, [2], 3]), NO_PART),
    "labels in themselves": (lambda _: in_itself(), f"{NO_PART}|labels of object"),
    "no image": (lambda _: spoiled(0, labels=[]), r"labels of float64 \(0,\)"),
    "too few labels": (lambda _: spoiled(3, labels=[1, 2]), r"\(3, 12288\): for its 2 labels they must be uint8"),
    "32 pixels": (lambda _: spoiled(3, data=np.zeros((3, 3072), np.uint8)), r"\(3, 3072\): for its 3 labels"),
    "float data": (lambda _: spoiled(3, data=np.zeros((3, 12288), np.float32)), r"data of float32 \(3, 12288\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_parts_that_are_none_are_named(tmp_path: Path, kind: str):
    downsampled(tmp_path)
    make, said = DAMAGE[kind]
    damaged, ran = tmp_path / "train_data_batch_7", tmp_path / "it_ran"
    damaged.write_bytes(make(ran))
    with pytest.raises(UserError, match=said) as error:
        load_images(Config(dataset="imagenet64", data_dir=str(tmp_path)), CPU, ("train",))
    assert str(error.value).startswith(str(damaged)) and not ran.exists()
    if kind == "a pickle that runs code":  # as it would
        pickle.loads(damaged.read_bytes())
        assert ran.exists()


def test_a_test_set_that_lacks_is_named_before_training(tmp_path: Path, capsys: pytest.CaptureFixture):
    config = Config(dataset="imagenet64", data_dir=str(downsampled(tmp_path)))
    read_split(config, "train")
    assert "train_data_batch_1 ... hold 32 images, not 1,281,167" in capsys.readouterr().out
    (tmp_path / "val_data").unlink()
    with pytest.raises(UserError, match="val_data is not there"):
        read_split(config, "train")


def test_a_part_that_memory_cannot_hold_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(imagenet64, "read_pickle", full)
    with pytest.raises(UserError, match="train_data_batch_1 .*: it asks for more memory than there is"):
        read_split(Config(dataset="imagenet64", data_dir=str(downsampled(tmp_path))), "train")


def test_objects_in_npz_are_refused(tmp_path: Path):
    np.savez(tmp_path / "val_data.npz", data=np.array([Evil(tmp_path / "it_ran")]), labels=[1])
    with pytest.raises(UserError, match="val_data.npz is no part .* allow_pickle"):
        load_images(Config(dataset="imagenet64", data_dir=str(tmp_path)), CPU, ("test",))
    assert not (tmp_path / "it_ran").exists()


def test_features_are_made_of_all_parts(tmp_path: Path):
    config = replace(PRESETS["imagenet64"], data_dir=str(downsampled(tmp_path)))
    parts = read_split(config, "train").images
    whole = load_program("extract_features").whole(parts, "pool", config)
    assert np.array_equal(whole, load_images(config, CPU)[0].pixels) and len(whole) == 32


def test_changed_pictures_of_an_archive_are_named(tmp_path: Path):
    """As those of a folder: whatever reader gave files."""
    root = tiny(tmp_path / "data")
    flags = ["--dataset", "tiny-imagenet", "--data-dir", "data", "--experiment", "x", "--img-size", "16", "--width", "4",
             "--rotation-epochs", "1", "--threads", "1"]  # fmt: skip
    run(tmp_path, "rotation.py", *flags)
    picture(root / "train" / WNIDS[0] / "images/n02124075_1.JPEG", 200)
    done = run(tmp_path, "rotation.py", *flags, status=2)
    one_error(done.stderr, "rotation.py", "images of the pool: 1 changed (train/n02124075/n02124075_1.JPEG)")


def test_missing_and_doubled_parts_are_named(tmp_path: Path):
    config = Config(dataset="imagenet64", data_dir=str(downsampled(tmp_path)))
    (tmp_path / "train_data_batch_8").rename(tmp_path / "train_data_batch_8.part")
    with pytest.raises(UserError, match=r"/train_data_batch_8 is not there, with or without .npz"):
        read_split(config, "train")
    (tmp_path / "more").mkdir()
    (tmp_path / "train_data_batch_8.part").rename(tmp_path / "more/train_data_batch_8")
    (tmp_path / "linked").symlink_to(tmp_path / "more")
    shutil.copytree(tmp_path / "more", tmp_path / ".trash")
    assert len(read_split(config, "train").images) == 32  # a link and a hidden folder are no other part
    np.savez(tmp_path / "train_data_batch_8.npz", **part(3))
    with pytest.raises(UserError, match=r"batch_8.npz and .*more/train_data_batch_8 have one name"):
        read_split(config, "train")


# --- a pool that stays in a file


def resident_file_memory() -> int:
    """Bytes of mapped files that this process has in memory."""
    with open("/proc/self/status") as file:
        values = dict(line.split(":") for line in file)
    return 1024 * sum(int(values[name].split()[0]) for name in ("RssFile", "RssShmem"))


def test_a_mapped_pool_is_let_go():
    """64 MB of pixels, read from end to end; without letting go they stay."""
    source = np.random.default_rng(0)
    parts = Parts(
        (5120, 64, 64, 3),
        lambda: (source.integers(256, size=(1024, 64, 64, 3), dtype=np.uint8) for _ in range(5)),
    )
    before = resident_file_memory()
    pixels = resize_all(parts, 64, "crop", 0)
    assert resident_file_memory() - before < 24 * 2**20
    assert isinstance(pixels.base, mmap.mmap) and pixels.shape == (5120, 64, 64, 3)
    images = Images(
        torch.from_numpy(np.asarray(pixels)), torch.zeros(5120, dtype=torch.int64),
        [f"a/b/{i}" for i in range(5120)], ["0", "1"], CPU, streams=True,
    )  # fmt: skip
    before = resident_file_memory()
    whole = images.fingerprint(), images.pixel_hashes()
    assert resident_file_memory() - before > 48 * 2**20
    images.mapped = pixels
    for read in (
        lambda: (images.fingerprint(), images.pixel_hashes()) == whole,
        lambda: sum(len(x) for x, _ in images.stream(torch.randperm(5120).split(128))) == 5120,
    ):
        assert read() and resident_file_memory() - before < 24 * 2**20


@pytest.mark.parametrize("kind", ["caltech101", "tiny-imagenet", "imagenet64"])
@pytest.mark.slow
def test_the_pipeline_runs_on_an_archive(tmp_path: Path, caltech_data: Path, kind: str):
    """All steps, by the preset where there is one; streamed from a file it gives the same weights."""
    preset = [kind] if kind in PRESETS else ["--dataset", kind]
    data = {"caltech101": lambda: caltech_data, "tiny-imagenet": lambda: tiny(tmp_path / "data"),
            "imagenet64": lambda: downsampled(tmp_path / "data")}[kind]()  # fmt: skip
    flags = [*preset, "--data-dir", str(data), "--img-size", "48", "--width", "4", "--depth", "18", "--stem", "imagenet",
             "--rotation-epochs", "1", "--num-batches", "2", "--cycles", "2", "--labels-per-cycle", "3", "--epochs", "2",
             "--milestones", "1", "--min-epoch-images", "0", "--crop-padding", "2", "--threads", "1", "--lr", "0.01"]  # fmt: skip
    for name, share in (("a", "0.5"), ("b", "0")):
        (tmp_path / name).mkdir()
        for script in ("rotation.py", "make_batches.py", "main.py"):
            run(tmp_path / name, script, *flags, "--experiment", "x", "--resident-share", share)
    last = rows(tmp_path / "a/runs/x/main-confidence/cycles.csv")[-1]
    assert last["labels"] == "6"
    different = differences(tmp_path / "a", tmp_path / "b")  # config.json names the share
    assert {name.split("/")[-1] for name in different} == {"config.json"}
    # Its first layers are not those of another stem.
    done = run(tmp_path / "a", "main.py", *flags, "--experiment", "x", "--stem", "small", status=2)
    one_error(done.stderr, "main.py", "stem (was imagenet, now small)")
