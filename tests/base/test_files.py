"""Checkpoints are whole, or refused; files and locks can be shared."""

import errno
import fcntl
import io
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import Timeout
from shell import user_error

from pt4al.base import files
from pt4al.base.files import load_checkpoint


def saved(content: dict) -> bytes:
    """What torch writes of it, which depends on the content alone."""
    buffer = io.BytesIO()
    torch.save(files.canonical(content), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small_checkpoint() -> bytes:
    """3 kB with every kind of value that ours hold."""
    weights = {"a": torch.randn(3, 4), "b": torch.tensor(7), "c": torch.randn(5).bfloat16()}
    record = {"script": "main.py", "parameters": {"lr": 0.1, "name": "Größe", "losses": None, "flip": True}}
    content = {"net": weights, "acc": 91.25, "momentum": [torch.randn(2, 3)], "labeled": [[1], [70000]]}
    return saved({**content, "record": record})


def test_no_change_of_a_checkpoint_goes_unseen(small_checkpoint: bytes, tmp_path: Path):
    """A bit changed in every third byte, and the file cut short: what comes out is what went in, or it is
    refused in one line. Every bit and length were tried once, of files that torch 2.4.1 and 2.14.1 wrote."""
    path, refusals, source = tmp_path / "a.pth", 0, random.Random(0)
    flips = [(i, 1 << source.randrange(8)) for i in range(source.randrange(3), len(small_checkpoint), 3)]
    # Attributes of the entries in the archive's directory: one bit there makes torch skip the content.
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", small_checkpoint)]
    directories = [(start + 38, 0x10) for start in entries]
    for i, bit in (*flips, *directories):
        spoiled = bytearray(small_checkpoint)
        spoiled[i] ^= bit
        path.write_bytes(spoiled)
        try:
            # Padding and dates carry nothing.
            assert saved(load_checkpoint(path)) == small_checkpoint and (i, bit) not in directories
        except files.UserError as error:
            refusals += 1
            assert "\n" not in str(error) and "is not a usable checkpoint" in str(error)
    assert len(entries) > 6 and refusals > len(flips) // 2
    for n in (*range(0, len(small_checkpoint), 20), len(small_checkpoint) - 1):
        path.write_bytes(small_checkpoint[:n])
        with pytest.raises(files.UserError, match="is not a usable checkpoint"):
            load_checkpoint(path)


def test_torch_alone_does_not_see_a_changed_weight(small_checkpoint: bytes, tmp_path: Path):
    """Else nothing above would be needed."""
    content = torch.load(io.BytesIO(small_checkpoint), weights_only=True)
    weights = content["net"]["a"].numpy().tobytes()
    spoiled = small_checkpoint.replace(weights, bytes(len(weights)))
    assert not torch.load(io.BytesIO(spoiled), weights_only=True)["net"]["a"].any()
    (tmp_path / "a.pth").write_bytes(spoiled)
    with pytest.raises(files.UserError, match="data/0 does not match its checksum"):
        load_checkpoint(tmp_path / "a.pth")


def test_checkpoints_of_earlier_code_load(small_checkpoint: bytes, tmp_path: Path):
    """A checksum of the content was a value of theirs; those older than torch 1.6 are no zip archives."""
    content = torch.load(io.BytesIO(small_checkpoint), weights_only=True)
    for zipped in (True, False):
        old = {**content, "checksum": "0" * 64}
        torch.save(old, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        assert saved(load_checkpoint(tmp_path / "a.pth")) == small_checkpoint


def test_a_tiny_number_is_not_written_as_zero(tmp_path: Path):
    numbers = [1e-7, -1e-7, 0.0, 0.03, 99.5, 1e-3, 123456.0]
    files.write_csv(tmp_path / "a.csv", ["x", "y"], [[x, None] for x in numbers])
    header, *lines = (tmp_path / "a.csv").read_text().splitlines()
    assert header == "x,y" and [float(line.removesuffix(",")) for line in lines] == numbers


def test_lines_that_an_editor_saved(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa/\xff.png\r\nb.png")
    assert files.read_lines(tmp_path / "a.txt") == ["a/\udcff.png", "b.png"]


# --- files and locks that several accounts use


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("mode", [0o664, 0o600, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int, umask: None):
    path = tmp_path / "labels.csv"
    files.write_text(path, "old")
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(mode)
    files.write_text(path, "new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o2775, 0o777, 0o700])
def test_who_may_write_in_a_folder_may_take_its_lock(tmp_path: Path, mode: int, umask: None):
    tmp_path.chmod(mode)
    with files.take_lock(tmp_path / ".lock", 0):
        assert (tmp_path / ".lock").stat().st_mode & 0o777 == mode & 0o666
        with pytest.raises(Timeout):
            files.take_lock(tmp_path / ".lock", 0)


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with user_error(str(tmp_path), os.strerror(errno.ENOLCK), "another disk", "local_lock"):
        files.lock_folder(tmp_path)
