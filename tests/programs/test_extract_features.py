"""extract_features.py: rows are timm's own, whatever stopped it meanwhile, and what cannot be is one line."""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import made_once
from PIL import Image, ImageOps
from shell import Started, command, environment, few_digits, load_program, one_error, run, user_error
from torch import Tensor

from config import CIFAR10
from loader import READERS, Split, load_images, read_split
from pt4al.base import files, processes
from pt4al.base.console import Stopped

timm = pytest.importorskip("timm")
PROGRAM = load_program("extract_features")
NAME = "test_efficientnet.r160_in1k"  # 99,196 weights, 160 pixels, 256 numbers an image
DIGITS = ["--dataset", "folder", "--data-dir", few_digits(), "--experiment", "few"]
FEW = Path("features/few")
Extract = Callable[..., str]

# Blocks of four images, and every one on disk at once, so that there is something to stop.
SMALL_BLOCKS = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent.parent)!r}, {str(Path(__file__).parent.parent.parent)!r}]
from shell import load_program
from pt4al.base.console import run_script
program = load_program("extract_features")
program.BLOCK, program.SYNC_SECONDS = 4, 0.0
run_script(program.main)
"""


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny network that nobody has trained."""

    def make(work: Path) -> None:
        torch.manual_seed(0)
        torch.save(timm.create_model(NAME, num_classes=10).state_dict(), work / "weights.pth")

    return made_once(tmp_path_factory, "backbone", make) / "weights.pth"


@pytest.fixture
def extract(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Extract]:
    """Run the program in this process, in `tmp_path`, in blocks of four; what it prints."""

    def here(*flags: str, backbone: str = NAME, weights: Path | str | None = weights) -> str:
        of_file = [] if weights is None else ["--weights", str(weights)]
        words = ["--backbone", backbone, *of_file, *(flags or DIGITS)]
        monkeypatch.setattr(sys, "argv", ["utils/extract_features.py", "cifar10", *words])
        try:
            PROGRAM.main()
        finally:
            files.HELD.clear()  # the locks that would have ended with the process
        return capfd.readouterr().out

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PROGRAM, "BLOCK", 4)
    monkeypatch.setattr(PROGRAM, "SYNC_SECONDS", 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield here
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """features/ of the few digits, made in one go; tests must not change it."""

    def make(work: Path) -> None:
        small_blocks(work)
        run(work, str(work / "extract_features.py"), *flags_of(weights))

    return made_once(tmp_path_factory, "extracted", make)


def small_blocks(folder: Path) -> None:
    (folder / "extract_features.py").write_text(SMALL_BLOCKS)


def flags_of(weights: Path) -> list[str]:
    return ["cifar10", "--backbone", NAME, "--weights", str(weights), *DIGITS]


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder of features, locks apart."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if path.name not in (".lock", ".holder")
    }


def times(folder: Path) -> dict[str, tuple[int, int]]:
    found = [folder / name for name in content(folder)]
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def marks(folder: Path, name: str = "pool") -> bytes:
    """A byte for each block of four, 1 where its rows are done."""
    path = folder / f".part/{name}.done"
    return path.read_bytes() if path.exists() else b""


# --- the numbers


def reference(pictures: list[Image.Image], weights: Path) -> np.ndarray:
    """What timm's documentation does with a picture, one by one: float32 (n, d)."""
    net = timm.create_model(NAME, num_classes=10)
    net.load_state_dict(torch.load(weights))
    net.reset_classifier(0)
    net.eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=net), is_training=False)
    with torch.no_grad():
        return torch.cat([net(transform(x.convert("RGB"))[None]) for x in pictures]).numpy()


def close(rows: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Alike, by far more than two pictures are."""
    assert rows.shape == expected.shape and rows.dtype == np.float32
    error = np.abs(rows - expected).max()
    scale = np.abs(expected).max()
    assert error < tolerance * scale
    apart = [np.abs(a - b).max() for i, a in enumerate(expected) for b in expected[:i]]
    assert min(apart) > 10 * tolerance * scale, "the pictures are too much alike to tell"


def picture(seed: int, width: int, height: int) -> Image.Image:
    """Something smooth, and different at its four sides."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def photos(folder: Path) -> list[Image.Image]:
    """A pool of odd pictures, by name, and each as a person sees it, in RGB of eight bits."""
    pool = folder / "photos/pool"
    pool.mkdir(parents=True)
    seen = []
    plain = picture(0, 200, 300)
    plain.save(pool / "0.png")
    seen.append(plain)
    turned = picture(1, 260, 190)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(pool / "1.jpg", exif=exif, quality=95)
    seen.append(ImageOps.exif_transpose(Image.open(pool / "1.jpg")))
    assert seen[1].size == (190, 260)
    grey = picture(2, 180, 180).convert("L")
    grey.save(pool / "2.png")
    seen.append(grey)
    clear = picture(3, 170, 240).convert("RGBA")
    clear.putalpha(90)
    clear.save(pool / "3.png")
    seen.append(picture(3, 170, 240))
    deep = np.asarray(picture(4, 40, 30).convert("L"))
    Image.fromarray(deep.astype(np.uint16) * 257).save(pool / "4.png")
    assert Image.open(pool / "4.png").mode.startswith("I")
    seen.append(Image.fromarray(deep))
    colors = picture(5, 64, 64).quantize(32)
    colors.save(pool / "5.gif")
    seen.append(Image.open(pool / "5.gif").convert("RGB"))
    narrow = picture(6, 700, 60)
    narrow.save(pool / "6.webp", lossless=True)
    seen.append(narrow)
    return seen


def test_rows_are_what_timm_makes_of_each_picture(tmp_path: Path, extract: Extract, weights: Path):
    seen = photos(tmp_path)
    told = extract("--dataset", "unlabeled", "--data-dir", "photos", "--experiment", "own")
    folder = tmp_path / "features/own"
    assert "7 images" in told and "256 numbers" in told and "--features features/own" in told
    close(np.load(folder / "pool.npy"), reference(seen, weights))
    names = (folder / "pool.txt").read_text().split("\n")
    assert [x.partition(".")[0] for x in names] == [*(f"pool/{i}" for i in range(7)), ""]
    assert sorted(content(folder)) == ["made_from.json", "pool.npy", "pool.txt"]
    made_from = json.loads((folder / "made_from.json").read_text())
    assert made_from["preprocessing"]["input_size"] == [3, 160, 160] and made_from["backbone"] == NAME


def test_a_large_jpeg_is_shrunk_while_decoded(
    tmp_path: Path, extract: Extract, weights: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "photos/pool").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 8
    for i in range(2):
        picture(i, 3000, 2000).save(tmp_path / f"photos/pool/{i}.jpg", quality=95, exif=exif)
    sizes, opened = [], PROGRAM.open_picture

    def spy(*arguments: Any) -> Image.Image:
        sizes.append((found := opened(*arguments)).size)
        return found

    monkeypatch.setattr(PROGRAM, "open_picture", spy)
    extract("--dataset", "unlabeled", "--data-dir", "photos", "--experiment", "own")
    assert sizes == [(1500, 1000)] * 2  # 4 times the 168 pixels that are looked at, or more
    seen = [ImageOps.exif_transpose(Image.open(tmp_path / f"photos/pool/{i}.jpg")) for i in range(2)]
    close(np.load(tmp_path / "features/own/pool.npy"), reference(seen, weights), tolerance=0.01)


def test_arrays_and_class_folders_in_the_order_of_the_data_set(
    tmp_path: Path, extract: Extract, whole: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever --img-size and --resize say."""
    digits = READERS["digits"]

    def few(config: Any, split: str) -> Split:
        images, labels, names, classes = digits(config, split)
        return Split(images[:7], labels[:7], names[:7], classes)

    monkeypatch.setitem(READERS, "digits", few)
    extract("--dataset", "digits", "--img-size", "16", "--resize", "squash", "--experiment", "digits")
    for folder, config in (
        (tmp_path / "features/digits", replace(CIFAR10, dataset="digits")),
        (whole / FEW, replace(CIFAR10, dataset="folder", data_dir=few_digits())),
    ):
        for split, name in PROGRAM.FILES.items():
            images, _, ids, _ = read_split(config, split)
            assert (folder / f"{name}.txt").read_text() == "".join(f"{x}\n" for x in ids)
            rows = np.load(folder / f"{name}.npy")
            assert len(rows) == len(ids)
            some = [*range(0, len(ids), len(ids) // 6)]
            opened = [Image.open(x) if isinstance(x, Path) else Image.fromarray(x) for x in (images[i] for i in some)]  # fmt: skip
            close(rows[some], reference(opened, weights))


def test_rows_do_not_depend_on_what_passes_with_them(tmp_path: Path, extract: Extract, whole: Path, monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    monkeypatch.setattr(PROGRAM, "BLOCK", 32)
    extract()
    for name in PROGRAM.FILES.values():
        rows, expected = (np.load(x / FEW / f"{name}.npy") for x in (tmp_path, whole))
        assert np.abs(rows - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_copy_has_the_row_of_the_first_also_in_the_last_block(
    tmp_path: Path, extract: Extract, weights: Path, monkeypatch: pytest.MonkeyPatch
):
    """So that it is known as one: 33 pictures are a block and one picture."""
    (tmp_path / "photos/pool").mkdir(parents=True)
    for i in range(33):
        picture(i % 32, 40, 40).save(tmp_path / f"photos/pool/{i:02}.png")
    monkeypatch.setattr(PROGRAM, "BLOCK", 32)
    own = ["--dataset", "unlabeled", "--data-dir", "photos"]
    extract(*own, "--experiment", "own")
    rows = np.load(tmp_path / "features/own/pool.npy")
    assert np.array_equal(rows[0], rows[32]) and len(np.unique(rows, axis=0)) == 32
    config = replace(CIFAR10, dataset="unlabeled", data_dir="photos")
    pool, _ = load_images(config, torch.device("cpu"), features="features/own")
    assert pool.copies == {32: 0}


# --- stopped and started again


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path, whole: Path, weights: Path):
    """By SIGKILL and SIGTERM, half of them some blocks further on; what is finished is begun again."""

    def done() -> int:
        return sum(marks(tmp_path / FEW)) + sum(marks(tmp_path / FEW, "test"))

    def start() -> Started:
        return Started(tmp_path, str(tmp_path / "extract_features.py"), *flags_of(weights))

    small_blocks(tmp_path)
    source, kills, resumed = random.Random(7), 0, set()
    while kills < 20:
        before, process = done(), start()
        wanted = before + source.randint(1, 9) if kills % 2 else math.inf
        until = time.monotonic() + (60 if kills % 2 else source.uniform(0.1, 0.7))
        while process.poll() is None and done() < wanted and time.monotonic() < until:
            time.sleep(0.002)
        killed = process.poll() is None
        ends = (tmp_path / FEW / "made_from.json").exists()  # Python may listen no more
        number = signal.SIGKILL if ends else source.choice([signal.SIGKILL, signal.SIGTERM])
        process.send_signal(number)
        error = process.communicate()[1]
        if number == signal.SIGTERM and process.returncode == 128 + number:
            assert len(error.strip().splitlines()) == 1, error
        else:  # or it had ended, or had not begun to listen
            assert process.returncode in (0, -number) and not error, error
        kills += killed
        resumed.add(before)
        if process.returncode == 0 and (tmp_path / FEW / "made_from.json").exists():
            assert content(tmp_path / FEW) == content(whole / FEW)
            shutil.rmtree(tmp_path / FEW)
    assert len(resumed) > 3, "there was little to resume"
    assert start().wait() == 0
    assert content(tmp_path / FEW) == content(whole / FEW)


def test_stopped_at_any_change_of_its_files_it_ends_with_the_same_bytes(
    tmp_path: Path, whole: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch
):
    """At every rename, synchronization and deletion in turn, before it and after it."""
    calls = SimpleNamespace(count=0, stop=10**9)

    def counted(function: Callable) -> Callable:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.count += 1
            if calls.count == calls.stop:
                raise Stopped(signal.SIGTERM)
            result = function(*arguments, **named)
            calls.count += 1
            if calls.count == calls.stop:
                raise Stopped(signal.SIGTERM)
            return result

        return call

    with monkeypatch.context() as patched:
        for name in ("replace", "fsync", "posix_fallocate"):
            patched.setattr(os, name, counted(getattr(os, name)))
        patched.setattr(shutil, "rmtree", counted(shutil.rmtree))
        stops = 0
        while True:
            calls.count, calls.stop = 0, stops + 1  # one further each time: the start is done by then
            stops += 1
            try:
                extract()
                break
            except Stopped:
                continue
    assert stops > 10
    assert "nothing to do" in extract() and content(tmp_path / FEW) == content(whole / FEW)


def test_finished_it_says_so_and_restart_makes_the_same(tmp_path: Path, whole: Path, extract: Extract):
    shutil.copytree(whole / FEW, tmp_path / FEW)
    before = times(tmp_path / FEW)
    assert "features/few is finished: nothing to do" in extract() and times(tmp_path / FEW) == before
    extract(*DIGITS, "--restart")
    assert content(tmp_path / FEW) == content(whole / FEW)
    after = times(tmp_path / FEW)
    assert all(after[name] != before[name] for name in before)


def test_restart_forgets_what_was_begun(tmp_path: Path, whole: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    begin(tmp_path, extract, monkeypatch)
    rows = tmp_path / FEW / ".part/pool.npy"
    rows.write_bytes(bytes(len(rows.read_bytes())))  # what is marked as done is nothing
    extract(*DIGITS, "--restart")
    assert content(tmp_path / FEW) == content(whole / FEW)


def begin(tmp_path: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch, blocks: int = 6) -> None:
    """Stop it after so many blocks."""
    read, seen = PROGRAM.read, []

    def stop(*arguments: Any) -> Any:
        seen.append(0)
        if len(seen) > 4 * (blocks + 1):
            raise Stopped(signal.SIGTERM)
        return read(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(PROGRAM, "read", stop)
        patched.setattr(PROGRAM, "count_workers", lambda *_: 1)
        with pytest.raises(Stopped):
            extract()
    assert 0 < sum(marks(tmp_path / FEW)) < 25


def test_stopped_it_looks_only_at_what_is_left(
    tmp_path: Path, whole: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch
):
    begin(tmp_path, extract, monkeypatch)
    done, seen = sum(marks(tmp_path / FEW)), []
    monkeypatch.setattr(PROGRAM, "read", lambda *x, read=PROGRAM.read: seen.append(x[0]) or read(*x))
    extract()
    assert len(seen) == 130 - 4 * done and content(tmp_path / FEW) == content(whole / FEW)


def test_what_comes_before_an_image_that_is_removed_or_added_is_kept(
    tmp_path: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch
):
    """As after an error that names a damaged one; the rows are those of one go."""
    shutil.copytree(few_digits(), tmp_path / "digits")
    flags = ["--dataset", "folder", "--data-dir", "digits", "--experiment", "few"]
    bad = tmp_path / "digits/train/5/03.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(files.UserError, match="1 of 130 images cannot be read"):
        extract(*flags)
    assert len(marks(tmp_path / FEW)) == 25 and sum(marks(tmp_path / FEW)) == 24
    bad.unlink()
    seen = []
    monkeypatch.setattr(PROGRAM, "read", lambda *x, read=PROGRAM.read: seen.append(x[0]) or read(*x))
    with monkeypatch.context() as patched:
        patched.setattr(PROGRAM, "finish", lambda *_: None)  # stays open, for another one
        told = extract(*flags)
    assert f"; resuming after {129 - len(seen)} images" in told
    assert 30 < len(seen) < 70 and not {path for path in seen if "test" in path.parts or path.parts[2] < "5"}
    seen.clear()
    shutil.copy(tmp_path / "digits/train/5/04.png", tmp_path / "digits/train/9/zz.png")
    extract(*flags)
    assert Path("digits/train/9/zz.png") in seen and len(seen) <= 4
    ours = content(tmp_path / FEW)
    shutil.rmtree(tmp_path / FEW)
    assert "resuming" not in extract(*flags) and content(tmp_path / FEW) == ours


def test_photographs_changed_since_are_told_when_the_rows_are_used(tmp_path: Path, extract: Extract):
    for i in range(8):
        path = tmp_path / f"photos/pool/{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + i, 8), (30 * i, 0, 0)).save(path)
    flags = ["--dataset", "unlabeled", "--data-dir", "photos", "--experiment", "few"]
    extract(*flags)
    config = replace(CIFAR10, dataset="unlabeled", data_dir="photos")
    (pool,) = load_images(config, torch.device("cpu"), ("train",), features=str(FEW))
    assert len(pool) == 8
    shutil.copy("photos/pool/1/7.png", "photos/pool/0/0.png")
    with user_error("features/few/pool.npy was made from other images", "--restart"):
        load_images(config, torch.device("cpu"), ("train",), features=str(FEW))
    Path("photos/pool/0/0.png").unlink()  # some may be left out
    assert len(load_images(config, torch.device("cpu"), ("train",), features=str(FEW))[0]) == 7


def test_a_signal_stops_it_while_it_looks_at_the_images():
    """It does not read the other ones before it ends."""
    read = []

    class Slow:
        def read_bytes(self) -> bytes:
            time.sleep(0.002)
            read.append(self)
            return b""

    class Key(str):
        def encode(self, *_: Any) -> bytes:
            raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped):
        PROGRAM.digests([Slow()] * 500, [Key(i) for i in range(500)], CIFAR10)
    assert len(read) < 50


def test_a_litter_of_the_last_step_is_removed(tmp_path: Path, whole: Path, extract: Extract):
    """A kill between the last move and the removal of what is left; then the person deletes the rows."""
    shutil.copytree(whole / FEW, tmp_path / FEW)
    part = tmp_path / FEW / ".part"
    part.mkdir()
    (part / "pool.done").write_bytes(b"\1" * 25)
    for name in ("pool.npy", "pool.txt", "test.npy", "test.txt", "made_from.json"):
        (tmp_path / FEW / name).unlink()
    extract()
    assert content(tmp_path / FEW) == content(whole / FEW)
    part.mkdir()
    assert "nothing to do" in extract() and not part.exists()


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(tmp_path: Path, whole: Path, weights: Path):
    small_blocks(tmp_path)
    script = str(tmp_path / "extract_features.py")
    told = run(tmp_path, script, *flags_of(weights), processes=2)
    assert told.stderr == "" and told.stdout.count("use it with") == 1
    ours, theirs = content(tmp_path / FEW), content(whole / FEW)
    a, b = (json.loads(x.pop("made_from.json")) for x in (ours, theirs))
    assert ours == theirs and (a["made_with"].pop("processes"), b["made_with"].pop("processes")) == (2, 1)
    assert a == b


@pytest.mark.slow
def test_what_another_process_cannot_read_keeps_all_from_finishing(tmp_path: Path, weights: Path):
    small_blocks(tmp_path)
    shutil.copytree(few_digits(), tmp_path / "digits")
    bad = tmp_path / "digits/train/0/05.png"  # of the second block, so of the second process
    bad.write_bytes(bad.read_bytes()[:60])
    flags = [*flags_of(weights), "--data-dir", "digits"]
    told = run(tmp_path, str(tmp_path / "extract_features.py"), *flags, status=1, processes=2)
    for line in told.stderr.splitlines(True):
        one_error(line, "extract_features.py", "1 of 130 images cannot be read: digits/train/0/05.png")
    assert len(told.stderr.splitlines()) == 2
    assert sorted(x for x in content(tmp_path / FEW) if not x.startswith(".part/")) == []
    assert marks(tmp_path / FEW) == b"\1\0" + b"\1" * 23 and marks(tmp_path / FEW, "test") == b"\1" * 8


# --- refused


def refuse(tmp_path: Path, extract: Extract, says: tuple[str, ...], *flags: str, **how: Any) -> None:
    """What is done must be refused in one line, and nothing be lost."""
    before = content(tmp_path / "features")
    with user_error(*says):
        extract(*(flags or DIGITS), **how)
    assert content(tmp_path / "features") == before


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "begun"])
def test_what_was_made_from_something_else_is_refused(
    tmp_path: Path, whole: Path, extract: Extract, weights: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
):  # fmt: skip
    if finished:
        shutil.copytree(whole / FEW, tmp_path / FEW)
    else:
        begin(tmp_path, extract, monkeypatch)
    other = torch.load(weights)
    other["conv_stem.weight"][0, 0, 0, 0] += 1
    torch.save(other, "other.pth")
    made_from = "features/few was made from something else"
    refuse(tmp_path, extract, (made_from, "weights (was ", "--restart"), weights="other.pth")
    with pytest.raises(files.UserError) as error:
        extract(weights="other.pth")
    assert "images" not in str(error.value) and "backbone" not in str(error.value)
    torch.save(timm.create_model("test_efficientnet_ln").state_dict(), "ln.pth")
    backbone = f"backbone (was {NAME}, now test_efficientnet_ln.r160_in1k)"
    refuse(
        tmp_path, extract, (made_from, backbone), backbone="test_efficientnet_ln.r160_in1k", weights="ln.pth"
    )
    if not finished:
        return  # blocks of other images are done again
    shutil.copytree(few_digits(), "digits")
    moved = ["--dataset", "folder", "--data-dir", "digits", "--experiment", "few"]
    pixel = Image.open("digits/test/3/10.png")
    pixel.putpixel((0, 0), 255 - pixel.getpixel((0, 0)))
    pixel.save("digits/test/3/10.png")
    refuse(tmp_path, extract, (made_from, "test images (was "), *moved)
    with pytest.raises(files.UserError) as error:
        extract(*moved)
    assert "pool images" not in str(error.value)
    Path("digits/train/0/00.png").rename("digits/train/0/99.png")
    refuse(tmp_path, extract, ("pool images (was ", "test images (was "), *moved)
    shutil.rmtree("digits")
    shutil.copytree(few_digits(), "digits")
    assert extract(*moved)  # elsewhere, but the same images
    assert content(tmp_path / FEW).keys() == content(whole / FEW).keys()


@pytest.mark.parametrize("flags", [[], ["--restart"]])
def test_rows_of_another_tool_are_left_alone(tmp_path: Path, extract: Extract, flags: list[str]):
    (tmp_path / FEW).mkdir(parents=True)
    np.save(tmp_path / FEW / "test.npy", np.ones((2, 2), np.float32))
    refuse(tmp_path, extract, ("features/few/test.npy was made by another tool",), *DIGITS, *flags)


def test_a_damaged_note_is_refused(tmp_path: Path, whole: Path, extract: Extract):
    shutil.copytree(whole / FEW, tmp_path / FEW)
    for text in ("", "{", "[]", "{}"):
        (tmp_path / FEW / "made_from.json").write_text(text)
        refuse(tmp_path, extract, ("features/few/made_from.json",))
        refuse(tmp_path, extract, ("features/few/made_from.json",), *DIGITS, "--restart")


def test_two_at_once(tmp_path: Path, extract: Extract):
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
         "from pt4al.base.files import lock_folder\n"
         "lock_folder(Path('features/few')); print('held', flush=True); time.sleep(60)",
         str(Path(__file__).parent.parent.parent)],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        refuse(tmp_path, extract, (f"features/few is in use by process {holder.pid}", "--experiment"))
    finally:
        holder.kill()
        holder.communicate()
    extract()


def test_pictures_that_cannot_be_read_are_all_named_and_the_rest_is_kept(
    tmp_path: Path, extract: Extract, whole: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(few_digits(), "digits")
    flags = ["--dataset", "folder", "--data-dir", "digits", "--experiment", "few"]
    bad = ["digits/train/0/05.png", "digits/train/9/09.png", "digits/test/4/11.png"]
    for path in map(Path, bad):
        path.write_bytes(path.read_bytes()[:60])
    Path(bad[1]).write_bytes(b"")
    with user_error("3 of 130 images cannot be read: ", *(f"{x} (" for x in bad), "mend or remove them"):
        extract(*flags)
    assert [i for i, mark in enumerate(marks(tmp_path / FEW)) if not mark] == [1, 24]
    assert [i for i, mark in enumerate(marks(tmp_path / FEW, "test")) if not mark] == [3]
    seen = []
    monkeypatch.setattr(PROGRAM, "read", lambda *x, read=PROGRAM.read: seen.append(x[0]) or read(*x))
    refuse(tmp_path, extract, ("3 of 130 images cannot be read",), *flags)
    assert len(seen) == 12  # the blocks that are left
    assert not (tmp_path / FEW / "pool.npy").exists()
    for path in map(Path, bad):  # mended; and a block that was done has another image
        shutil.copy(Path(few_digits(), *path.parts[1:]), path)
    Image.open("digits/train/3/00.png").point(lambda x: 255 - x).save("digits/train/3/00.png")
    seen.clear()
    extract(*flags)
    assert len(seen) == 16 and Path("digits/train/3/00.png") in seen
    kept = content(tmp_path / FEW)
    shutil.rmtree(FEW)
    extract(*flags)
    again = content(tmp_path / FEW)
    assert len(kept) == 5 and {**kept, "made_from.json": b""} == {**again, "made_from.json": b""}


# --- weights and networks


def test_weights_by_other_names(tmp_path: Path, extract: Extract, whole: Path, weights: Path):
    """Of another program, of several GPUs, nested in a checkpoint, without the last layer, or in safetensors."""
    from safetensors.torch import save_file

    state = torch.load(weights)
    rows = content(whole / FEW)["pool.npy"]
    headless = {x: y for x, y in state.items() if not x.startswith("classifier.")}
    assert len(state) == len(headless) + 2
    kinds: dict[str, Any] = {
        "others": {f"backbone/{x.replace('blocks', 'stages')}": y for x, y in state.items()},
        "several": {f"module.{x}": y for x, y in state.items()},
        "nested": {"epoch": 3, "state_dict": {f"module.{x}": y for x, y in state.items()}},
        "headless": headless,
        "shuffled": dict(sorted(state.items())),
    }
    for i, (kind, content_of) in enumerate(kinds.items()):
        torch.save(content_of, f"{kind}.pth")
        net = timm.create_model(NAME, num_classes=0)
        PROGRAM.load_weights(net, Path(f"{kind}.pth"))
        assert all(torch.equal(net.state_dict()[x], headless[x]) for x in net.state_dict()), kind
        if i == 0:
            extract(weights="others.pth")
            assert content(tmp_path / FEW)["pool.npy"] == rows
    save_file(state, "weights.safetensors")
    made_from = json.loads((tmp_path / FEW / "made_from.json").read_text())
    assert made_from["weights_from"] == "others.pth"
    assert "nothing to do" in extract(weights="weights.safetensors")  # they are the same, wherever from


def too_many(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {f"decoder.{i}": torch.zeros(3) for i in range(5)}


def without_last(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [x for x in state if not x.startswith("classifier.")]
    return {x: state[x] for x in names[:-3]}


WRONG_WEIGHTS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], tuple[str, ...]]] = {
    "another network": (
        lambda _: timm.create_model("test_resnet").state_dict(),
        ("is of another network", "conv1.0.weight", "in place of conv_stem.weight [24, 3, 3, 3]")),
    "too many": (too_many, ("is of another network",)),
    "too few": (without_last, ("is of another network", "nothing in place of bn2")),
    "no tensors": (lambda _: {"epoch": 3}, ("is of another network", "nothing in place of conv_stem.weight")),
    "a list": (lambda state: list(state.values()), ("w.pth",)),
    "NaN": (
        lambda state: state | {"conv_stem.weight": state["conv_stem.weight"] * float("nan")},
        (f"{NAME} gives NaN or infinity",)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_weights_of_something_else(tmp_path: Path, extract: Extract, weights: Path, name: str):
    make, says = WRONG_WEIGHTS[name]
    torch.save(make(torch.load(weights)), "w.pth")
    with user_error(*says):
        extract(weights="w.pth")
    assert not (tmp_path / FEW / "pool.npy").exists()


def test_files_that_are_no_weights(tmp_path: Path, extract: Extract, weights: Path):
    whole = weights.read_bytes()
    damaged = {
        "cut.pth": whole[: len(whole) // 2], "empty.pth": b"", "text.pth": b"weights\n" * 99,
        "no.safetensors": whole,
    }  # fmt: skip
    for name, data in damaged.items():
        Path(name).write_bytes(data)
        refuse(tmp_path, extract, (f"weights: {name} cannot be read",), weights=name)
    Path("folder.pth").mkdir()
    for name in ("nowhere.pth", "folder.pth"):
        refuse(tmp_path, extract, (f"weights: {name} does not exist",), weights=name)
    refuse(tmp_path, extract, ("--weights is given and empty",), weights="")  # "$W", which is not set


def test_weights_are_data(tmp_path: Path, extract: Extract):
    """A file that would run something when it is unpickled does not."""

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "opened",)

    torch.save({"conv_stem.weight": Evil()}, "evil.pth")
    refuse(tmp_path, extract, ("weights: evil.pth cannot be read",), weights="evil.pth")
    assert not (tmp_path / "opened").exists()
    torch.load("evil.pth", weights_only=False)
    assert (tmp_path / "opened").exists()


def test_networks_that_are_not_there(tmp_path: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch):
    known = "name one, such as vit_small_patch14_dinov2.lvd142m or tf_efficientnet_lite0"
    refuse(tmp_path, extract, ("backbone is ''", known), backbone="")
    refuse(tmp_path, extract, ("backbone is 'resnet17'", known), backbone="resnet17")
    refuse(tmp_path, extract, ("backbone is 'resnet1'", "it knows ", "resnet18", known), backbone="resnet1")
    refuse(tmp_path, extract, ("backbone is '[a'", known), backbone="[a")
    refuse(
        tmp_path, extract, ("Invalid pretrained tag", "--weights"), backbone="resnet18.nobody", weights=None
    )
    monkeypatch.setitem(sys.modules, "timm", None)  # what an import of it then fails at
    refuse(tmp_path, extract, ("timm", "is not installed: pip install timm"))
    assert not (tmp_path / "features").exists()


@pytest.mark.slow
def test_without_a_network_it_asks_for_a_file_of_weights(tmp_path: Path):
    """And without timm for timm; through the shell, as both are read when Python starts."""
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent/timm.py").write_text("raise ImportError('no timm here')\n")
    start = command("utils/extract_features.py", "digits", "--backbone", "resnet18.a1_in1k")
    offline = environment(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"))
    began = [
        subprocess.Popen(start, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
        for env in (offline, offline | {"PYTHONPATH": str(tmp_path / "absent")})
    ]
    says = ("resnet18.a1_in1k", "--weights"), ("pip install timm",)
    for process, parts in zip(began, says, strict=True):
        errors = process.communicate()[1]
        assert process.returncode == 2
        one_error(errors, "extract_features.py", *parts)
    assert not (tmp_path / "features").exists()


def test_the_hash_of_weights_is_of_what_is_used(extract: Extract, tmp_path: Path, weights: Path):
    """The last layer has no part in it."""
    state = torch.load(weights)
    torch.save(state | {"classifier.bias": state["classifier.bias"] + 1}, "other.pth")
    hashes = {
        PROGRAM.load_backbone(SimpleNamespace(backbone=NAME, weights=str(path)), torch.device("cpu")).about[
            "weights"
        ]
        for path in (weights, "other.pth")
    }
    assert len(hashes) == 1 and len(hashes.pop()) == len(hashlib.sha256().hexdigest())
    assert processes.world_size() == 1
