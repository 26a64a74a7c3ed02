import errno
import hashlib
import io
import os
import pickle
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError
from torchvision import datasets
from torchvision.transforms import functional as tv

from config import CIFAR10, DIGITS, Config
from loader import READERS, Split, imbalanced, load_images
from pt4al.base.console import SIGNALS, Stopped, UserError, on_signal
from pt4al.data import decoding
from pt4al.data.decoding import count_workers, decode, read_image, resize_all, to_rgb
from pt4al.data.images import Images
from pt4al.data.transforms import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    channel_statistics,
    crop_and_flip,
    normalization,
    normalizer,
    rotate,
)
from pt4al.train.seeding import crop_draws, epoch_order, rotation_draws

CPU = torch.device("cpu")


def some_images(n: int, size: int = 32) -> torch.Tensor:
    """uint8 (n, 3, size, size) in channels_last order, all different."""
    pixels = torch.randint(
        256, (n, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n)
    )
    return pixels.permute(0, 3, 1, 2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_turn_is_rot90_of_each_image(turns: list[int]):
    images = some_images(len(turns))
    for image, k, turned in zip(images, turns, rotate(images, torch.tensor(turns)), strict=True):
        assert torch.equal(turned, torch.rot90(image, k, (1, 2)))


@given(st.integers(1, 9), st.integers(0, 6), st.integers(0, 99))
def test_crop_and_flip_are_torchvisions_on_the_same_offsets(n: int, padding: int, epoch: int):
    images = some_images(n)
    rows, columns, flips = crop_draws(0, n, padding, 0, epoch)
    ours = crop_and_flip(images, rows, columns, flips, padding)
    for i in range(n):
        image = tv.pad(images[i], [padding])  # black, as RandomCrop(32, padding=4) does it
        image = tv.crop(image, int(rows[i]), int(columns[i]), 32, 32)
        assert torch.equal(ours[i], tv.hflip(image) if flips[i] else image)


def test_crop_draws_cover_all_offsets_and_flip_half():
    rows, columns, flips = crop_draws(0, 20_000, 4, 0, 0)
    # Each of 9 offsets is expected 2,222 times, standard deviation 44; 5 of those are the margin.
    for draw in (rows, columns):
        counts = torch.bincount(draw)
        assert len(counts) == 9 and (counts - 2222).abs().max() < 222
    assert abs(flips.sum().item() - 10_000) < 5 * 71


def test_normalise_is_torchvisions():
    images = some_images(4)
    ours = normalizer(list(CIFAR10_MEAN), list(CIFAR10_STD), CPU)(images)
    theirs = tv.normalize(images.float() / 255, CIFAR10_MEAN, CIFAR10_STD)
    assert torch.equal(ours, theirs)


def test_channel_statistics_are_those_of_the_pixels():
    (pool,) = load_images(replace(DIGITS, img_size=24), CPU, ("train",))
    mean, std = channel_statistics(pool)
    values = pool.pixels.double() / 255
    assert mean == pytest.approx(values.mean((0, 1, 2)).tolist(), abs=1e-9)
    assert std == pytest.approx(values.std((0, 1, 2), correction=0).tolist(), abs=1e-9)


def test_order_of_two_images_does_not_depend_on_the_others():
    everything = epoch_order(7, 100, torch.arange(100), 2, 3).tolist()
    some = epoch_order(7, 100, torch.tensor([5, 90, 17, 3]), 2, 3).tolist()
    assert some == [i for i in everything if i in {5, 90, 17, 3}]
    assert sorted(everything) == list(range(100))
    assert everything != epoch_order(7, 100, torch.arange(100), 2, 4).tolist()


def test_turn_draws_give_each_image_its_four_turns_once():
    turns = rotation_draws(0, 5000, 1)
    assert turns.sort(1).values.tolist() == [[0, 1, 2, 3]] * 5000
    # Every turn is first for a quarter of the images: 1,250, standard deviation 31. The margin is 5 of those.
    assert (torch.bincount(turns[:, 0]) - 1250).abs().max() < 155


def test_digits_are_split_for_good():
    pool, test = load_images(DIGITS, CPU)
    assert (len(pool), len(test), pool.pixels.shape[1:]) == (1438, 359, (16, 16, 3))
    assert not {x.split("/")[-1] for x in pool.ids} & {x.split("/")[-1] for x in test.ids}
    assert pool.ids[0] == "./DATA/train/0/0.png"
    assert set(pool.labels.tolist()) == set(test.labels.tolist()) == set(range(10))


def test_a_long_tail_is_cut_by_seed_from_the_pool_alone():
    """Of ten classes of 500 at a ratio of 10, class c keeps 500 / 10 ** (c / 9)."""
    labels = np.arange(5000) % 10
    kept = imbalanced(labels, 10, "exponential", 0)
    expected = [500, 387, 299, 232, 179, 139, 107, 83, 64, 50]
    assert np.bincount(labels[kept]).tolist() == expected and np.array_equal(kept, np.unique(kept))
    assert np.array_equal(kept, imbalanced(labels, 10, "exponential", 0))
    assert not np.array_equal(kept, imbalanced(labels, 10, "exponential", 1))
    small = np.array([0] * 9 + [1] * 3 + [2] * 90)  # the second class has fewer than its share of 28
    assert np.bincount(small[imbalanced(small, 10, "exponential", 0)]).tolist() == [9, 3, 9]
    pool, test = load_images(replace(DIGITS, imbalance=10), CPU)
    whole = load_images(DIGITS, CPU, ("train",))[0]
    sizes = np.bincount(whole.labels)
    assert len(test) == 359
    assert np.bincount(pool.labels)[[0, 9]].tolist() == [sizes[0], sizes.max() // 10]
    assert torch.equal(whole.pixels[[whole.ids.index(i) for i in pool.ids]], pool.pixels)


def test_a_step_cuts_every_other_class():
    """TA-VAAL's imbalanced CIFAR-10: 50 images of classes 0, 2, 4, 6 and 8, and all 5,000 of the others."""
    labels = np.arange(50_000) * 7 % 10
    kept = imbalanced(labels, 100, "step", 0)
    assert np.bincount(labels[kept]).tolist() == [50, 5000] * 5
    assert np.array_equal(kept, np.unique(kept)) and np.array_equal(kept, imbalanced(labels, 100, "step", 0))
    assert not np.array_equal(kept, imbalanced(labels, 100, "step", 1))
    few = np.array([0] * 3 + [1] * 4 + [2] * 90)  # of three classes the second stays, if it is small too
    assert np.bincount(few[imbalanced(few, 10, "step", 0)]).tolist() == [3, 4, 9]
    pool, test = load_images(replace(DIGITS, imbalance=10, imbalance_kind="step"), CPU)
    whole = load_images(DIGITS, CPU, ("train",))[0]
    sizes = np.bincount(whole.labels)
    small = sizes.max() // 10
    assert np.bincount(pool.labels).tolist() == [sizes[c] if c % 2 else small for c in range(10)]
    assert len(test) == 359


def test_bgr_swaps_the_channels():
    folder = {"dataset": "digits", "img_size": 16}
    rgb, bgr = (
        load_images(Config(**folder, channel_order=order), CPU, ("train",))[0] for order in ("rgb", "bgr")
    )
    assert torch.equal(rgb.pixels, bgr.pixels.flip(3))


def test_sums_of_channels_are_exact():
    """As whole numbers give them, also where all pixels are white."""
    pixels = torch.randint(256, (700, 20, 20, 3), dtype=torch.uint8)
    pixels[:600, ..., 1] = 255
    images = Images(pixels, torch.zeros(700, dtype=torch.int64), [*map(str, range(700))], ["0", "1"], CPU)
    values = pixels.numpy().reshape(-1, 3).astype(np.int64)
    mean = values.sum(0) / (255 * len(values))
    variance = (values**2).sum(0) / (255 * 255 * len(values)) - mean**2
    assert channel_statistics(images) == (mean.tolist(), np.sqrt(variance).tolist())


def test_constants_are_those_that_are_asked_for():
    """Computed ones are of the images as read: swapping the channels swaps no constants."""
    pixels = torch.tensor([10, 100, 200], dtype=torch.uint8).expand(4, 16, 16, 3).clone()
    pixels[0] += 20
    rgb = Images(pixels, torch.zeros(4, dtype=torch.int64), list("abcd"), ["0", "1"], CPU)
    bgr = replace(rgb, pixels=pixels.flip(3))
    folder = Config(dataset="folder")
    mean, std = normalization(folder, rgb)
    assert mean == pytest.approx([15 / 255, 105 / 255, 205 / 255]) and std[0] > 0
    assert normalization(replace(folder, channel_order="bgr"), bgr) == (mean, std)
    cifar10 = list(CIFAR10_MEAN), list(CIFAR10_STD)
    assert normalization(replace(folder, normalization="cifar10"), rgb) == cifar10
    assert normalization(Config(), rgb) == cifar10
    assert normalization(Config(normalization="computed"), rgb) == (mean, std)


# --- a reader that somebody adds


def mine(**wrong: object) -> Split:
    """What a reader of 60 images of three classes gives, with something else in places."""
    pixels, labels = np.zeros((60, 16, 16, 3), np.uint8), np.arange(60) % 3
    names, classes = [f"{label}/{i}.png" for i, label in enumerate(labels)], ["a", "b", "c"]
    right = {"pixels": pixels, "labels": labels, "names": names, "classes": classes}
    return tuple({**right, **wrong}.values())


RIGHT = "not files, nor uint8 (n, h, w, 3) or (n, h, w) of greys"
MISTAKES = [
    ({"labels": np.arange(60) % 3 + 1}, "labels go from 1 to 3, not from 0 to 2"),
    ({"labels": np.arange(60) % 3 - 1}, "labels go from -1 to 1, not from 0 to 2"),
    ({"labels": (np.arange(60) % 3).astype(np.int32)}, "labels are int32 (60,), not int64 (60,)"),
    ({"labels": np.zeros(59, np.int64)}, "labels are int64 (59,), not int64 (60,)"),
    ({"labels": [0, 1, 2] * 20}, "labels are list, not int64 (60,)"),
    ({"pixels": np.zeros((60, 256), np.uint8)}, f"images are uint8 (60, 256), {RIGHT}"),
    ({"pixels": np.zeros((60, 3, 16, 16), np.uint8)}, f"images are uint8 (60, 3, 16, 16), {RIGHT}"),
    ({"pixels": np.zeros((60, 16, 16, 3))}, f"images are float64 (60, 16, 16, 3), {RIGHT}"),
    ({"names": ["0/x.png"] * 60}, "60 images have one name, train/0/x (endings do not count)"),
    ({"names": [f"0/{i // 2}.{('png', 'jpg')[i % 2]}" for i in range(60)]},
     "2 images have one name, train/0/0 (endings do not count)"),
    ({"names": []}, "60 images have 0 names"),
    ({"classes": ["a"]}, "60 images of 1 classes: there is nothing to learn"),
    ({"pixels": np.zeros((0, 16, 16, 3), np.uint8), "labels": np.zeros(0, np.int64), "names": []},
     "0 images of 3 classes"),
]  # fmt: skip


@pytest.mark.parametrize("wrong, told", MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_of_a_reader_are_told(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object], told: str):
    def read_mine(*_: object) -> Split:
        return mine(**wrong)

    monkeypatch.setitem(READERS, "digits", read_mine)
    with pytest.raises(UserError) as error:
        load_images(DIGITS, CPU, ("train",))
    assert str(error.value).startswith(f"read_mine of loader.py, train of digits: {told}")


def test_pixels_of_a_reader_may_lie_in_any_order(monkeypatch: pytest.MonkeyPatch):
    pixels = some_images(60, 16).permute(0, 2, 3, 1).numpy()
    prints = []
    for same in (pixels, np.asfortranarray(pixels)):
        monkeypatch.setitem(READERS, "digits", lambda *_, same=same: mine(pixels=same))
        prints.append(load_images(DIGITS, CPU, ("train",))[0].fingerprint())
    assert prints[0] == prints[1]


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_arrays_are_made_square_as_files_are(resize: str):
    source = np.random.default_rng(0)
    for shape in ((2, 20, 40, 3), (2, 40, 20), (2, 8, 8, 3), (2, 16, 16)):
        pixels = source.integers(256, size=shape, dtype=np.uint8)
        expected = [to_rgb(Image.fromarray(image), 16, resize) for image in pixels]
        assert np.array_equal(resize_all(pixels, 16, resize, 1 << 30), expected)
    for shape, kind in (((2, 16, 16, 3), float), ((2, 16, 16, 1), np.uint8), ((2, 256), np.uint8)):
        with pytest.raises(UserError, match=r"resize_all takes uint8 \(n, h, w, 3\), or"):
            resize_all(np.zeros(shape, kind), 16, resize, 1 << 30)


# --- CIFAR-10 by torchvision's own class, from a small archive in its own format

ASKED: list[str] = []  # of the server
HOLD = threading.Event()  # set: it answers at once


def cifar_archive() -> tuple[bytes, np.ndarray, list[int], dict[str, str]]:
    """A tar.gz like the original's with 3 images per file, its pixels (18, 32, 32, 3), labels, MD5 sums."""
    source = np.random.default_rng(0)
    pixels = source.integers(256, size=(18, 32, 32, 3), dtype=np.uint8)
    labels = source.integers(10, size=18).tolist()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    files = {}
    for i, name in enumerate(names):
        part = slice(3 * i, 3 * i + 3)
        rows = pixels[part].transpose(0, 3, 1, 2).reshape(3, -1)  # red, then green, then blue planes
        files[name] = pickle.dumps({"data": rows, "labels": labels[part]})
    files["batches.meta"] = pickle.dumps({"label_names": [f"class {i}" for i in range(10)]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return (
        buffer.getvalue(),
        pixels,
        labels,
        {name: hashlib.md5(data).hexdigest() for name, data in files.items()},
    )


@pytest.fixture
def small_cifar(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Path, np.ndarray, list[int]]]:
    """torchvision's CIFAR10 with its checksum list replaced, and its download address on this machine."""
    archive, pixels, labels, sums = cifar_archive()
    served = tmp_path / "served"
    served.mkdir()
    (served / datasets.CIFAR10.filename).write_bytes(archive)

    class Slow(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            ASKED.append(self.path)
            HOLD.wait(60)
            super().do_GET()

    ASKED.clear()
    HOLD.set()
    handler = partial(Slow, directory=str(served))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/{datasets.CIFAR10.filename}"
    monkeypatch.setattr(datasets.CIFAR10, "url", address)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive).hexdigest())
    monkeypatch.setattr(
        datasets.CIFAR10,
        "train_list",
        [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)],
    )
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    yield tmp_path, pixels, labels
    server.shutdown()


def test_cifar10_is_downloaded_verified_and_read(small_cifar: tuple[Path, np.ndarray, list[int]]):
    folder, pixels, labels = small_cifar
    config = replace(CIFAR10, data_dir=str(folder / "DATA"))
    pool, test = load_images(config, CPU)
    assert np.array_equal(pool.pixels.numpy(), pixels[:15]) and np.array_equal(
        test.pixels.numpy(), pixels[15:]
    )
    assert pool.labels.tolist() + test.labels.tolist() == labels
    assert pool.ids[4] == f"{folder}/DATA/train/{labels[4]}/4.png"
    assert (folder / "DATA" / datasets.CIFAR10.filename).exists()


def test_a_damaged_download_is_refused(small_cifar: tuple[Path, np.ndarray, list[int]], monkeypatch):
    folder, _, _ = small_cifar
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(
        UserError,
        match="cifar10 is not in .* could not be downloaded .* needs no network: python rotation.py digits$",
    ):
        load_images(replace(CIFAR10, data_dir=str(folder / "DATA")), CPU)


def test_of_runs_that_start_together_one_downloads(
    small_cifar: tuple[Path, np.ndarray, list[int]], capsys: pytest.CaptureFixture[str]
):
    folder, pixels, _ = small_cifar
    config = replace(CIFAR10, data_dir=str(folder / "DATA"))
    HOLD.clear()
    told = ""
    with ThreadPoolExecutor(3) as runs:
        pools = [runs.submit(load_images, config, CPU, ("train",)) for _ in range(3)]
        deadline = time.monotonic() + 60
        while told.count("waiting for it") < 2 and time.monotonic() < deadline:
            told += capsys.readouterr().out
            time.sleep(0.01)
        HOLD.set()
        for pool in pools:
            assert np.array_equal(pool.result()[0].pixels.numpy(), pixels[:15])
    # torchvision asks once for the address, once for the file.
    assert len(ASKED) <= 2 and f"another run downloads {datasets.CIFAR10.filename} into" in told
    assert not [path for path in (folder / "DATA").iterdir() if path.name.startswith(".download-")]


def test_a_damaged_archive_is_named_and_stays(small_cifar: tuple[Path, np.ndarray, list[int]]):
    folder, _, _ = small_cifar
    archive = folder / "DATA" / datasets.CIFAR10.filename
    archive.parent.mkdir()
    archive.write_bytes(whole := (folder / "served" / archive.name).read_bytes())
    archive.write_bytes(whole[:-100])
    config = replace(CIFAR10, data_dir=str(folder / "DATA"))
    with pytest.raises(UserError, match=rf"{archive.name} is damaged, .* MD5 is \w+, not \w+; delete it to"):
        load_images(config, CPU)
    assert archive.read_bytes() == whole[:-100] and not ASKED
    archive.write_bytes(whole)
    assert len(load_images(config, CPU)[0]) == 15 and not ASKED


# --- folders


def make_folder(root: Path) -> dict[str, Image.Image]:
    """Two classes, one 20x20 image of each kind that Pillow writes in the pool, two test images."""
    base = Image.fromarray(np.random.default_rng(0).integers(256, size=(20, 20, 3), dtype=np.uint8))
    grey16 = Image.fromarray((np.asarray(base.convert("L")).astype(np.uint16) << 8) + 7)
    made = {
        "train/b class/rgb.png": base,
        "train/b class/grey.png": base.convert("L"),
        "train/b class/16 bit.png": grey16,
        "train/b class/palette@2.gif": base.convert("P"),
        "train/a_1/alpha_é.png": base.convert("RGBA"),
        "train/a_1/cmyk.jpg": base.convert("CMYK"),
        "train/a_1/one.png": base.resize((1, 1)),
        "train/a_1/bits.tif": base.convert("1"),
        "train/a_1/20 megapixels.png": Image.new("L", (5000, 4000), 77),
        "test/b class/x.png": base,
        "test/a_1/y.webp": base,
    }
    for name, image in made.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    base.save(root / "train/a_1/moving.gif", save_all=True, append_images=[base.rotate(90)])
    (root / "train/a_1/notes.txt").write_text("not an image")
    (root / "train/a_1/.hidden.png").write_text("not an image")
    return made


def test_folder_reads_every_kind_of_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = make_folder(tmp_path)
    pool, test = load_images(replace(CIFAR10, dataset="folder", data_dir=str(tmp_path), img_size=20), CPU)
    assert pool.classes == test.classes == ["a_1", "b class"]
    by_name = {
        image_id.removeprefix(f"{tmp_path}/"): pool.pixels[i].numpy() for i, image_id in enumerate(pool.ids)
    }
    assert set(by_name) == {name for name in made if name.startswith("train")} | {"train/a_1/moving.gif"}
    rgb, grey = (np.asarray(made[f"train/b class/{kind}.png"].convert("RGB")) for kind in ("rgb", "grey"))
    assert np.array_equal(by_name["train/b class/rgb.png"], rgb)
    assert np.array_equal(by_name["train/b class/grey.png"], grey)
    assert np.array_equal(by_name["train/b class/16 bit.png"], grey)  # its upper bytes
    assert np.array_equal(by_name["train/a_1/alpha_é.png"], rgb)
    assert (by_name["train/a_1/20 megapixels.png"] == 77).all()
    assert (by_name["train/a_1/one.png"] == by_name["train/a_1/one.png"][0, 0]).all()
    told = capsys.readouterr().out
    assert told == f"{tmp_path}/train: 1 .txt files, 1 hidden files are left out\n"


def test_folder_classes_sort_as_numbers_and_images_are_resized(tmp_path: Path):
    for split in ("train", "test"):
        for name in ("10", "9", "2"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (64, 48), (int(name), 0, 0)).save(tmp_path / split / name / f"{name}.jpeg")
    (pool,) = load_images(replace(CIFAR10, dataset="folder", data_dir=str(tmp_path)), CPU, ("train",))
    assert pool.classes == ["2", "9", "10"] and pool.pixels.shape == (3, 32, 32, 3)


# --- what stands beside pictures


NAS = ["@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "@__thumb/s800a.jpg", "#recycle/gone.jpg", "@Recycle/gone.jpg",
       "__MACOSX/a/._a.jpg", "lost+found/x.jpg", "$RECYCLE.BIN/S-1-5/x.jpg", "System Volume Information/x.jpg",
       ".AppleDouble/a.jpg", ".thumbnails/a.jpg", "~snapshot/a.jpg", "Recycled/Dc1.jpg",
       "THMBNL/C0001T01.JPG"]  # fmt: skip
LOOSE = [
    "SYNOPHOTO_THUMB_M.jpg",
    "AlbumArtSmall.jpg",
    "AlbumArt_{5FA05D35-A682-4AF6-96F7-0773E42D4D16}_Large.jpg",
    "Recycled/INFO2",
    "._a.jpg",
    ".DS_Store",
    "Thumbs.db",
    "b.HEIC",
    "c.heic",
    "d.NEF",
    "e.txt",
    "noend",
]


def litter(folder: Path) -> None:
    """What a NAS, an archive or a system leaves beside pictures, and files that Pillow does not open."""
    for name in NAS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (1, 2, 3)).save(path)
    for name in LOOSE:
        (folder / name).write_bytes(b"no picture")


def test_thumbnails_of_a_nas_join_no_pool_and_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What is left out is one line in all, with counts, and with what to do."""
    colors = iter(range(0, 255, 10))
    for name in ("pool", "pool/trip/day 1", "train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (16, 16), (next(colors), 0, 0)).save(tmp_path / name / f"{i}.jpg")
    for name in ("pool", "pool/trip/day 1", "train", "train/a", "train/b"):
        litter(tmp_path / name)
    config = replace(DIGITS, data_dir=str(tmp_path))
    (pool,) = load_images(replace(config, dataset="unlabeled"), CPU, ("train",))
    assert [x.removeprefix("pool/") for x in pool.ids] == [
        "0.jpg", "1.jpg", "2.jpg", "trip/day 1/0.jpg", "trip/day 1/1.jpg", "trip/day 1/2.jpg"]  # fmt: skip
    line = capsys.readouterr().out
    assert line == (
        f"{tmp_path}/pool: 4 .heic files, 2 .nef files, 4 album covers, 4 hidden files, 4 hidden folders, "
        "2 .db files, 2 .txt files, 2 files without an ending, 2 images in #recycle, 2 images in $RECYCLE.BIN, "
        "2 images in @Recycle, 2 images in @__thumb, 16 other files are left out; "
        "to use .heic, .nef, convert them to JPEG or PNG\n"
    )
    (train, _) = load_images(replace(config, dataset="folder"), CPU)
    assert train.classes == ["a", "b"] and len(train) == 6
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{tmp_path}/train: 6 .heic files, 3 .nef files, ")
    for path in tmp_path.rglob("?.jpg"):
        path.rename(path.with_suffix(".cr2"))
    with pytest.raises(UserError, match="pool holds 0 images: .*6 .cr2 files, .* to use .cr2, .heic, .nef"):
        load_images(replace(config, dataset="unlabeled"), CPU, ("train",))
    with pytest.raises(UserError, match="train/a holds no image .*3 .cr2 files, .* convert them to JPEG"):
        load_images(replace(config, dataset="folder"), CPU, ("train",))


def test_names_that_a_person_may_give_are_read(tmp_path: Path):
    """Of a library of Apple's the originals alone, and a folder of waste that is recycled."""
    library = "pool/Fotos.photoslibrary"
    read = [f"{library}/originals/A/1.jpeg", "pool/AlbumArt.jpg", "pool/Folder.jpg", "pool/Recycled/1.jpg",
            "pool/resources/1.jpg"]  # fmt: skip
    derived = [f"{library}/resources/derivatives/1.jpeg", f"{library}/Thumbnails/1.jpg"]
    for color, name in enumerate(read + derived):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (20 * color, 0, 0)).save(tmp_path / name)
    config = replace(DIGITS, data_dir=str(tmp_path), dataset="unlabeled")
    (pool,) = load_images(config, CPU, ("train",))
    assert sorted(pool.ids) == sorted(read)


def test_folders_below_a_class_are_read(tmp_path: Path):
    """A folder is part of the name, so that an id keeps its class; names that would be one are refused."""
    for name in (
        "train/a/x.png",
        "train/a/in/deep/x.png",
        "train/b/in/y.png",
        "test/a/x.png",
        "test/b/in/x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), "red").save(tmp_path / name)
    config = replace(DIGITS, dataset="folder", data_dir=str(tmp_path))
    pool, test = load_images(config, CPU)
    assert [x.removeprefix(f"{tmp_path}/") for x in pool.ids] == [
        "train/a/in_deep_x.png", "train/a/x.png", "train/b/in_y.png"]  # fmt: skip
    assert pool.labels.tolist() == [0, 0, 1] and test.labels.tolist() == [0, 1]
    Image.new("RGB", (16, 16), "red").save(tmp_path / "train/a/in_deep_x.jpg")
    with pytest.raises(
        UserError, match=r"in_deep_x\.jpg and .*in/deep/x\.png would have one name, .* rename"
    ):
        load_images(config, CPU)


def test_line_ends_in_names_of_folders_are_refused(tmp_path: Path):
    """Ids stand one a line."""
    (tmp_path / "pool/a\nb").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (16, 16), "red").save(tmp_path / f"pool/a\nb/{i}.png")
    with pytest.raises(
        UserError, match=r"pool/a\\nb/0.png' has a line end or a backslash in its name: rename"
    ):
        load_images(replace(DIGITS, dataset="unlabeled", data_dir=str(tmp_path)), CPU, ("train",))


# --- images as people have them


def halves(width: int, height: int) -> Image.Image:
    """The upper half red, the lower half blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (0, height // 2, width, height))
    return image


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_photographs_come_out_upright(tmp_path: Path, tag: int, ending: str):
    """Stored turned or mirrored in each of the eight ways that EXIF knows, with the tag that says so."""
    turned = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[tag]  # fmt: skip
    image = halves(64, 48)
    stored = image.transpose(turned) if turned is not None else image
    exif = Image.Exif()
    exif[0x0112] = tag
    stored.save(tmp_path / f"a.{ending}", exif=exif)
    pixels = read_image(tmp_path / f"a.{ending}", 16, "crop")
    assert (pixels[:6, :, 0] > 200).all() and (pixels[10:, :, 2] > 200).all()


TURN_LEFT = b"\x01\x12\0\x03\0\0\0\x01\0\x08\0\0"


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (b"garbage", False),
        (b"MM\0*\0\0", False),  # cut
        (b"\xff\xff\xff\xff", False),
        (
            b"MM\0*\0\0\0\x08\0\x02\x01\x0f\0\x05\0\0\0\x01\0\0\0\0" + TURN_LEFT + bytes(4),
            True,
        ),  # camera: a number
    ],
)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_damaged_exif_harms_no_sound_picture(tmp_path: Path, ending: str, exif: bytes, turned: bool):
    """It is read as without the tag; where another tag is damaged, it is turned."""
    image = halves(64, 48)
    image.save(tmp_path / f"a.{ending}", exif=b"Exif\0\0" + exif)
    image.save(tmp_path / f"b.{ending}")
    damaged, plain = (read_image(tmp_path / f"{name}.{ending}", 16, "crop") for name in "ab")
    if turned:
        assert (damaged[:, :6, 0] > 200).all() and (damaged[:, 10:, 2] > 200).all()
    else:
        assert np.array_equal(damaged, plain)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16"])
@pytest.mark.parametrize("tag", [1, 6, 8])
def test_plain_tiff_files_are_turned_whole(tmp_path: Path, mode: str, tag: int):
    """Read by path, Pillow 13 shears those that are turned and not compressed."""
    values = np.arange(48 * 64, dtype=np.float64).reshape(48, 64) / (48 * 64)
    image = Image.fromarray((values * 65535).astype(np.uint16))
    if mode != "I;16":
        image = Image.fromarray((values * 255).astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = tag
    image.save(tmp_path / "a.tif", exif=exif)
    image.save(tmp_path / "b.tif", exif=exif, compression="tiff_lzw")
    pixels, compressed = (read_image(tmp_path / f"{name}.tif", 48, "crop") for name in "ab")
    assert np.array_equal(pixels, compressed)
    along = {1: 0, 6: 1, 8: 1}[tag]  # rows grow brighter downwards; a quarter turn makes them columns
    means = pixels[..., 0].mean(1 - along)
    assert abs(int(means[-1]) - int(means[0])) > 100


def test_white_is_zero_in_16_bits_too(tmp_path: Path):
    values = (RAMP * 65535).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    pixels = read_image(tmp_path / "a.tif", 20, "crop")
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[262] == 0  # else this tests nothing
    assert np.array_equal(pixels[..., 0], (65535 - values.astype(int)) >> 8)


def test_a_crop_keeps_the_proportions_and_a_squash_does_not():
    """A square of 32 pixels in the middle of a picture twice as wide as high."""
    image = Image.new("RGB", (128, 64), "black")
    image.paste("white", (48, 16, 80, 48))
    crop, squash = (to_rgb(image, 32, resize)[..., 0] > 127 for resize in ("crop", "squash"))
    assert (crop.any(0).sum(), crop.any(1).sum()) == (16, 16)
    assert (squash.any(0).sum(), squash.any(1).sum()) == (8, 16)


def grey(values: np.ndarray, path: Path, **options: object) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


RAMP = np.arange(400, dtype=np.float64).reshape(20, 20) / 399


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [("float.tif", RAMP.astype(np.float32), "float values of unknown range"),
     ("32 bit.tif", (RAMP * 255).astype(np.int32), "32-bit values of unknown range"),
     ("12 in 16.png", (RAMP * 4095).astype(np.uint16), "16-bit values from 0 to 4095"),
     ("8 in 16.tif", (RAMP * 255).astype(np.uint16), "16-bit values from 0 to 255")],
)  # fmt: skip
def test_values_of_unknown_range_are_refused_by_name(
    tmp_path: Path, name: str, values: np.ndarray, message: str
):
    with pytest.raises(UserError, match=f"1 of 1 images cannot be read: .*{name} .*{message}"):
        decode([grey(values, tmp_path / name)], DIGITS, "train", 1 << 30)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bits_keep_their_upper_eight(tmp_path: Path, ending: str):
    values = (RAMP * 65535).astype(np.uint16)
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for path, content in zip(paths, (values, 0 * values), strict=True):
        if ending == "pgm":  # which not every Pillow writes
            path.write_bytes(b"P5 20 20 65535\n" + content.astype(">u2").tobytes())
        else:
            grey(content, path)
    pixels, black = (read_image(path, 20, "crop") for path in paths)
    assert np.array_equal(pixels[..., 1], values >> 8)
    assert not black.any()


def test_an_eps_file_by_another_name_starts_no_other_program(tmp_path: Path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UnidentifiedImageError):
        read_image(tmp_path / "a.png", 20, "crop")


# --- many images, in threads


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """50 images of several kinds and sizes, all different."""
    source, paths = np.random.default_rng(0), []
    for i in range(50):
        pixels = source.integers(256, size=(20 + i, 60 - i, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{i:02}.{('png', 'jpg', 'gif', 'tif', 'webp')[i % 5]}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.mark.parametrize("threads", [1, 2, 7, 100])
@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_any_number_of_threads_gives_the_same_pixels(pictures: list[Path], threads: int, memory_limit: int):
    expected = [read_image(path, 16, "squash") for path in pictures]
    config = replace(DIGITS, threads=threads, resize="squash")
    for n in (50, 49, 3, 1):
        pixels = decode(pictures[:n], config, "train", memory_limit)
        assert pixels.dtype == np.uint8 and np.array_equal(pixels, expected[:n])
    assert decode([], config, "train", memory_limit).shape == (0, 16, 16, 3)


def test_images_that_cannot_be_read_are_named_at_once(pictures: list[Path], tmp_path: Path):
    """In the order of the files, whichever thread comes upon one first, whatever kind of error it is; of more
    than twenty the rest is counted."""
    pictures[45].write_bytes(b"no image")
    pictures[8].write_bytes(pictures[8].read_bytes()[:-900])
    pictures[30].unlink()
    for threads in (1, 7):
        with pytest.raises(
            UserError,
            match=r"^3 of 50 images cannot be read: \S+08\.tif \(\w+: [^;]*\); \S+30\.png \(FileNotFoundError: "
            r"[^;]*\); \S+45\.png \(UnidentifiedImageError: no picture that Pillow reads\); mend or remove them$",
        ):
            decode(pictures, replace(DIGITS, threads=threads), "train", 1 << 30)
    for path in pictures[:25]:
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^25 of 25 .*19\.webp \([^;]*\); and 5 more; mend or remove them$"):
        decode(pictures[:25], DIGITS, "train", 1 << 30)


def test_images_of_both_splits_that_cannot_be_read_are_named_at_once(tmp_path: Path):
    for i, name in enumerate(
        ("train/a/x.png", "train/b/x.png", "train/b/y.png", "test/a/x.png", "test/b/x.png")
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (50 * i, 0, 0)).save(tmp_path / name)
    for name in ("train/b/x.png", "test/a/x.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^2 of 5 images .*train/b/x\.png \(.*test/a/x\.png \("):
        load_images(replace(DIGITS, dataset="folder", data_dir=str(tmp_path)), CPU)


def test_pillow_keeps_its_remarks_to_itself(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
):
    """On EXIF that is damaged, transparency in a palette, and many pixels."""
    image = Image.new("RGB", (40, 40), "red")
    image.save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0")
    palette = image.convert("P")
    palette.save(tmp_path / "palette.png", transparency=b"\x80\0\xff")
    Image.new("1", (1_000, 900)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800_000)
    paths = [tmp_path / name for name in ("exif.jpg", "palette.png", "large.png")]
    with Image.open(paths[2]):
        pass
    assert [w.category for w in recwarn.list] == [Image.DecompressionBombWarning]  # else this tests nothing
    recwarn.clear()
    pixels = decode(paths, DIGITS, "train", 1 << 30)
    assert (pixels[:2, ..., 0] > 200).all() and not pixels[2].any() and not recwarn.list


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of 1,600 by 1,200 pixels with detail of every size."""
    source, path = np.random.default_rng(0), tmp_path_factory.mktemp("camera") / "a.jpg"
    picture = Image.new("RGB", (1600, 1200))
    for side in (4, 16, 64, 256):
        noise = source.integers(256, size=(side * 3 // 4, side, 3), dtype=np.uint8)
        picture = Image.blend(picture, Image.fromarray(noise).resize((1600, 1200), 3), 0.5)
    picture.save(path, quality=90)
    return path


@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize(("size", "scale"), [(16, 8), (32, 8), (64, 4), (150, 2), (151, 1), (224, 1)])
def test_large_jpegs_are_shrunk_while_they_are_decoded(
    camera: Path, monkeypatch: pytest.MonkeyPatch, size: int, scale: int, resize: str
):
    """From 8 times the size on, so that 4 times the size are left: within a grey level of all pixels."""
    with Image.open(camera) as image:
        whole = to_rgb(image, size, resize)
    sizes = []

    def spy(image: Image.Image, *how: object) -> np.ndarray:
        sizes.append(image.size)
        return to_rgb(image, *how)

    monkeypatch.setattr(decoding, "to_rgb", spy)
    pixels = read_image(camera, size, resize)
    assert sizes == [(1600 // scale, 1200 // scale)]
    difference = np.abs(pixels.astype(int) - whole)
    assert difference.max() <= 2 and difference.mean() < 0.5
    assert (scale == 1) == np.array_equal(pixels, whole)


def test_panoramas_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of ours, not of Pillow's. It is of pixels as decoded: of a large JPEG few are left."""
    for name in ("a.jpg", "a.png"):
        Image.new("L", (2000, 950), 77).save(tmp_path / name)
    paths = [tmp_path / "a.jpg", tmp_path / "a.png"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900_000)
    with pytest.raises(Image.DecompressionBombError):  # as Pillow does from 179 megapixels on
        Image.open(paths[1])
    assert decoding.LARGEST == 500_000_000 and (decode(paths, DIGITS, "train", 1 << 30) == 77).all()
    monkeypatch.setattr(decoding, "LARGEST", 1_000_000)
    told = r"1 of 2 images .*a\.png \(ValueError: 2 megapixels, and 1 are read: shrink it\)"
    with pytest.raises(UserError, match=told):
        decode(paths, DIGITS, "train", 1 << 30)


def test_labels_are_looked_at_before_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pool").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 0, 0)).save(tmp_path / f"pool/{i}.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    config = replace(DIGITS, dataset="unlabeled", data_dir=str(tmp_path))
    monkeypatch.setattr(decoding, "read_image", lambda *_: pytest.fail("an image was decoded"))
    for table, told in (("file_name,label\n1.png,cta\n", "line 2: 'cta' is not in classes.txt"),
                        ("file_name,class\n1.png,cat\n", "no column label"),
                        ("file_name,label\n1.png,cat\n1.png,dog\n", "line 3: .* has two labels")):  # fmt: skip
        (tmp_path / "labels.csv").write_text(table)
        with pytest.raises(UserError, match=told):
            load_images(config, CPU)
    monkeypatch.undo()
    assert len(load_images(config, CPU, ("train",))[0]) == 4  # where no label is used


def test_a_signal_ends_decoding_with_the_images_in_hand(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch
):
    began, ended, arrived = [], [], threading.Event()

    def read(path: Path, *_: object) -> np.ndarray:
        began.append(path)
        if len(began) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        if len(began) >= 20:
            arrived.wait(60)
        time.sleep(0.1)
        ended.append(path)
        return np.zeros((16, 16, 3), np.uint8)

    def handle(number: int, frame: object) -> None:
        arrived.set()
        on_signal(number, frame)

    monkeypatch.setattr(decoding, "read_image", read)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(Stopped):
            decode(pictures * 40, replace(DIGITS, threads=3), "train", 1 << 30)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert 20 <= len(began) < 35 and len(ended) == len(began)  # of 2,000, in tasks of 16


def test_threads_are_those_asked_for_or_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert [count_workers(0, n) for n in (0, 1, 5, 6, 1000)] == [1, 1, 5, 6, 6]
    assert [count_workers(9, n) for n in (0, 1, 5, 1000)] == [1, 1, 5, 9]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert count_workers(0, 1000) == 6  # left behind by a launcher
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert count_workers(0, 1000) == 1 and count_workers(3, 1000) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert count_workers(0, 1000) == 3
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert count_workers(0, 1000) == 5


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_streaming_pool_gives_the_images_of_a_resident_one(order: str):
    """`resident_share 0` maps the pool from a file and fetches ahead; parts of any size come in order."""
    resident, streaming = (
        load_images(replace(DIGITS, resident_share=s, channel_order=order), CPU, ("train",))[0]
        for s in (0.5, 0.0)
    )
    assert (resident.streams, streaming.streams) == (False, True)
    assert resident.fingerprint() == streaming.fingerprint()
    parts = (*torch.randperm(1438)[:600].split(70), torch.tensor([], dtype=torch.int64))
    for part, (ours, at), (theirs, _) in zip(
        parts, streaming.stream(parts), resident.stream(parts), strict=True
    ):
        assert torch.equal(at, part) and torch.equal(ours, theirs)
        assert torch.equal(ours, resident.pixels[part].permute(0, 3, 1, 2))
        assert ours.stride() == theirs.stride() or not len(part)
    assert not list(streaming.stream([]))


def test_a_stream_is_fetched_ahead_of_the_loop():
    """When the loop works on a part, the next ones are gathered already, and no more than those."""
    (pool,) = load_images(replace(DIGITS, resident_share=0.0), CPU, ("train",))
    sent: list[int] = []
    fetch = pool.send

    def send(positions: torch.Tensor, lane: None):
        sent.append(int(positions[0]))
        return fetch(positions, lane)

    pool.send = send
    stream = pool.stream(torch.arange(100).split(10))
    next(stream)
    deadline = time.monotonic() + 60
    while len(sent) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent == [0, 10, 20]
    stream.close()


def test_a_folder_of_temporary_files_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch):
    """Else Python takes /tmp without a word."""
    monkeypatch.setenv("TMPDIR", "/none/here")
    with pytest.raises(UserError, match="TMPDIR is /none/here, .* make that folder, or unset TMPDIR"):
        load_images(replace(DIGITS, resident_share=0.0), CPU, ("train",))
    assert len(load_images(DIGITS, CPU, ("test",))[0]) == 359  # where none is needed


def test_no_room_for_a_mapped_pool_is_said(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match="has no room for 1 MiB of images: set TMPDIR"):
        load_images(replace(DIGITS, resident_share=0.0), CPU, ("train",))
