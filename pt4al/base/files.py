"""Files that appear whole or not at all, checkpoints that are data (written canonically, checked
when read), and folders that one process holds at a time."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import socket
import stat
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from pt4al.base.console import UserError, printable

DIRECTORY = 0x10  # of a zip entry's attributes


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write next to `path`, flush to disk, rename over it: a reader sees the old file or the new
    one, which keeps its mode and, where possible, its group. A link of that name is replaced, never
    followed.

    Raises:
        UserError: it lies in a folder that this process held, and holds no longer.
    """
    check_held(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name a file: what a kill leaves, the next run replaces.
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with open(part, "xb") as file:
            if path.is_file() and not path.is_symlink():
                keep_mode(file.fileno(), path.stat())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # "No space left on device" alone names no file
        raise


def keep_mode(file: int, old: os.stat_result) -> None:
    """Let an open file be of the group and mode of another, as far as this account and the disk can."""
    new = os.fstat(file)
    if new.st_gid != old.st_gid:
        with contextlib.suppress(PermissionError):
            os.fchown(file, -1, old.st_gid)
    if new.st_mode != old.st_mode:
        with contextlib.suppress(PermissionError):
            os.fchmod(file, stat.S_IMODE(old.st_mode))


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8 (names that are none keep their bytes); a file that holds this text
    already stays as it is."""
    check_held(path)
    data = text.encode("utf-8", "surrogateescape")
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without their ends (LF or CRLF), nor a byte order mark; a last line without
    an end counts."""
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """None becomes an empty field, a float six decimals, or six digits where that would be 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([decimals(x) if isinstance(x, float) else x for x in row] for row in rows)
    write_text(path, text.getvalue())


def decimals(x: float) -> str:
    return f"{x:.6f}" if x == 0 or abs(x) >= 1e-3 else f"{x:.6g}"


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is not a regular file: move it away")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); move it away or use --restart") from None


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


@contextlib.contextmanager
def hashed(path: Path) -> Iterator[str]:
    """The SHA-256 of a file that is read meanwhile.

    Raises:
        UserError: it is not the same any more at the end.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist, or is not a regular file")
    digest = sha256_of(path)
    yield digest
    if sha256_of(path) != digest:
        raise UserError(f"{path} changed while it was read: start again")


def canonical(value: Any) -> Any:
    """A copy of nested dicts, lists, tensors and scalars whose pickle depends on its content alone.

    Tensors become contiguous and move to host memory; equal strings become one object, since pickle
    writes an object that it has met as a reference. Without this a resumed run would write other
    bytes than one that never stopped.
    """
    import torch  # takes seconds, and programs that draw need none

    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {canonical(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return sys.intern(str(value)) if isinstance(value, str) else value


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a dict of tensors, scalars, strings and lists, for `load_checkpoint`."""
    import torch

    buffer = io.BytesIO()
    torch.save(canonical(content), buffer)
    write_bytes(path, buffer.getbuffer())


def check_archive(data: bytes) -> None:
    """Raise an error of any kind if a zip archive is damaged: torch does not look at its checksums. Where an
    entry says that it is a directory, which no checksum covers, torch leaves the tensor uninitialized.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        damaged = archive.testzip()
        directories = [entry.filename for entry in archive.infolist() if entry.external_attr & DIRECTORY]
    if damaged or directories:
        raise ValueError(f"{damaged or directories[0]} does not match its checksum")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours or of the released code into host memory; nothing in it is executed.

    Raises:
        UserError: the file is missing, cut short, damaged, or holds anything but data.
    """
    import torch

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on foreign pickles, then refuses them
            if data.startswith(b"PK"):  # files older than torch 1.6 are no zip archives
                check_archive(data)
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # zipfile and torch raise many kinds for what is not a checkpoint: all mean the same here.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:120]
        raise UserError(
            f"{path} is not a usable checkpoint (cut short, damaged or unsafe): {reason}"
        ) from None
    net = content.get("net") if isinstance(content, dict) else None
    if not isinstance(net, dict) or not all(
        isinstance(name, str) and isinstance(w, torch.Tensor) for name, w in net.items()
    ):
        raise UserError(f"{path} is not a checkpoint of PT4AL: it has no dict of weights named 'net'")
    content.pop("checksum", None)  # what files of this code up to version 2 held besides
    return content


# --- folders in use

# By folder, with links followed and not, its lock, which ends with its object, and what `which_file` says.
HELD: dict[Path, tuple[filelock.FileLock, tuple[int, int] | None]] = {}


def take_lock(path: Path, seconds: float) -> filelock.FileLock:
    """Take a lock that everyone can take who may write in its folder. It ends with its object.

    Raises:
        filelock.Timeout: another process has held it for so long.
        UserError: its disk has no locks, or it is another account's.
    """
    folder = path.parent
    lock = filelock.FileLock(path, mode=folder.stat().st_mode & 0o666)
    try:
        lock.acquire(timeout=seconds)
    except filelock.Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EACCES and path.exists() and os.access(folder, os.W_OK):
            raise UserError(
                f"{path} is another account's and cannot be written: delete it while nobody uses {folder}"
            ) from None
        if number in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, None):
            raise UserError(
                f"{folder} is on a disk without locks ({error}): use a folder on another disk, or mount this "
                "one with locks (NFS: a running lockd, or the option local_lock=flock for one machine)"
            ) from None
        raise
    return lock


def lock_folder(folder: Path) -> None:
    """Hold a folder until this process ends, however it ends.

    Raises:
        UserError: another process holds it; named by the pid and machine it left in `.holder`. Or as
            `take_lock`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / ".holder"
    try:
        lock = take_lock(folder / ".lock", 0)
    except filelock.Timeout:
        known = holder.is_file() and not holder.is_symlink()
        who = printable(holder.read_text(errors="replace")[:80]).strip() if known else "another process"
        raise UserError(
            f"{folder} is in use by {who}: wait for it, stop it, or name another --experiment or --run-name"
        ) from None
    holder.unlink(missing_ok=True)  # never written through a link
    with open(holder, "x") as file:
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    HELD[folder.absolute()] = HELD[folder.resolve()] = lock, which_file(folder / ".lock")


def which_file(path: Path) -> tuple[int, int] | None:
    """What tells a file from every other that there is; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def check_held(path: Path) -> None:
    """Raise a UserError if a folder above `path` that this process holds was deleted or moved away: what
    has its name now may be of another process, which holds it as rightly."""
    for folder, (_, lock) in HELD.items():
        if folder in path.absolute().parents and which_file(folder / ".lock") != lock:
            raise UserError(f"{path.parent} was deleted or replaced while this run worked: it stops")
