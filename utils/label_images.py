"""Label the images that a run waits for, on a page in the browser: one picture
at a time, one key per class. No prediction is shown, except with --review.

The page follows the run. When all has an answer, give the same command of
main.py again: the page shows the next images as soon as they are chosen. Every
answer is on disk before the next picture shows: close the page and end the
program at any time, and go on later. Two windows may be open at once. The page
is for this machine alone: it is served on 127.0.0.1, and asks nothing of any
other.

Keys:    1 to 9, 0, then letters    a class, as its button says
         ?                          cannot tell: not trained on, not asked again
         Backspace, left / right    back / on
         Space                      zoom
         + / F2                     a new class / rename a class
         Enter                      with --review: keep the label

Reads:   RUN/config.json, RUN/to_label.csv (with --review: RUN/review.csv); of
         the folder of photographs that the run names: images, labels.csv and
         classes.txt; without classes.txt the classes are those of labels.csv
         and of the folders in test/
Writes:  labels.csv there, and classes.txt when a class is added or renamed;
         RUN/to_label.csv if that folder is read-only

Run:     python utils/label_images.py runs/photos/main-confidence
"""

import csv
import hashlib
import http.client
import io
import json
import logging
import os
import secrets
import socket
import sys
import threading
import urllib.request
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from PIL import UnidentifiedImageError
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pt4al.base.console import Parser, UserError, printable, run_script
from pt4al.base.files import read_json, write_lines
from pt4al.data.decoding import open_picture, quiet, upright
from pt4al.data.depth import eight_bits
from pt4al.data.ids import by_path, sort_classes
from pt4al.data.listing import folders_in, images_below
from pt4al.person.agreement import read_answers
from pt4al.person.labels import (
    UNSURE,
    LabelFile,
    add_class,
    check_class,
    class_of_folder,
    clean,
    decoded,
    doubts_first,
    editing,
    locked,
    read_classes,
)
from pt4al.person.naming import Find, Finder, below_pool, key_of

HOST = "127.0.0.1"
PORT = 8000  # where the page is looked for first
TRIES = 10  # ports from there on
PAGE = Path(__file__).with_suffix(".html")
MOST_PIXELS = 1600  # a side, of what is sent
AS_PNG = 512 * 512  # pixels up to which a picture is sent without loss
MOST_BYTES = 10_000  # of a request


@dataclass
class View:
    """What labels.csv and classes.txt say at a moment.

    Attributes:
        classes: in the order of their keys.
        answers: class, `?` or None (not yet) of each image of the list.
    """

    classes: list[str]
    answers: list[str | None]

    def waiting(self) -> int:
        return self.answers.count(None)


@dataclass(frozen=True)
class Listed:
    """A list of images, as it stood at a moment.

    Attributes:
        files: paths below the folder of photographs.
        doubts: with --review, of each image its label, the prediction and the probability of the label.
        elsewhere: with --review, how many doubtful labels are those of folders in test/.
        position_of: the place in the list, by id key.
        name: of this list: a page that shows another one is out of date.
    """

    files: tuple[str, ...] = ()
    doubts: tuple[tuple[str, str, float], ...] = ()
    elsewhere: int = 0
    position_of: dict[str, int] = field(init=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        whole = "\n".join(self.files).encode("utf-8", "surrogateescape")
        object.__setattr__(self, "position_of", {by_path(file): i for i, file in enumerate(self.files)})
        object.__setattr__(self, "name", hashlib.sha256(whole).hexdigest()[:16])


class Task:
    """The images that a run waits for, stop after stop, and the labels that one person gives them.

    Attributes:
        photos: the folder of photographs.
        find: which image of the whole pool a text names.
        keeps, book: where answers go: the folder that is locked meanwhile, and the file in it.
        added: classes that were added, where classes.txt cannot be written.
    """

    def __init__(self, run: Path, annotator: str = "", review: bool = False) -> None:
        """Read the list of a run. With an annotator only answers in that name count.

        Raises:
            UserError: it is no run that asks for labels, or its folder of photographs is not there.
        """
        self.run, self.annotator, self.review = run, annotator.strip(), review
        if not self.annotator.isprintable() or len(self.annotator) > 200:
            raise UserError("--annotator: give a name in one line, 200 letters at most")
        self.photos = photos_of(run)
        pool = self.photos / "pool"
        images = images_below(pool) if pool.is_dir() else ()
        self.find = Finder({by_path(path.relative_to(self.photos).as_posix()) for path in images})
        self.writable = os.access(self.photos, os.W_OK)
        self.keeps, self.book = (self.photos, "labels.csv") if self.writable else (run, "to_label.csv")
        self.added: list[str] = []
        self.source = run / ("review.csv" if review else "to_label.csv")
        if not self.source.exists() and (review or not (run / "asked.txt").exists()):
            what = "has no doubtful labels yet" if review else "waits for no labels"
            raise UserError(f"{run} {what}: there is no {self.source.name}; main.py writes it")
        self.reading = threading.Lock()
        self.stamp: tuple[int, ...] = ()
        self.latest = Listed()

    def listed(self) -> Listed:
        """The list as it is now; while main.py trains and there is none, the last one.

        Raises:
            UserError: names the line that cannot be used.
        """
        with self.reading:
            if self.source.exists():
                stat = self.source.stat()
                stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if stamp != self.stamp:
                    self.latest = self.read_review() if self.review else self.read_list()
                    self.stamp = stamp
            return self.latest

    def read_list(self) -> Listed:
        """What to_label.csv asks for."""
        return Listed(tuple(read_list(self.source, self.find)))

    def read_review(self) -> Listed:
        """The doubtful labels that still stand."""
        whole = read_review(self.source)
        inside = [(file, *rest) for file, *rest in whole if not file.startswith("test/")]
        answers = self.view(Listed(tuple(file for file, *_ in inside))).answers
        rows = [row for row, label in zip(inside, answers, strict=True) if row[1] == label]
        doubts = tuple((label, predicted, p) for _, label, predicted, p in rows)
        return Listed(tuple(file for file, *_ in rows), doubts, len(whole) - len(inside))

    def finished(self) -> bool:
        """Whether the run has come to its end since it asked last."""
        end, asked = self.run / "predictions.csv", self.run / "asked.txt"
        return end.exists() and asked.exists() and end.stat().st_mtime_ns >= asked.stat().st_mtime_ns

    def view(self, listed: Listed) -> View:
        """As it is now.

        Raises:
            UserError: names the line of labels.csv or classes.txt that cannot be used.
        """
        with locked(self.keeps):
            return self.look(listed)

    def look(self, listed: Listed) -> View:
        """As `view`, for who holds the lock."""
        sources = self.photos / "labels.csv", self.run / "to_label.csv"
        rows = [row for path in sources if path.exists() for row in LabelFile(path, self.find).rows()]
        classes = read_classes(self.photos, least=1)
        # As main.py reads them: this names the line that it would refuse.
        labels = read_answers(sources, listed.position_of, classes, self.find).labels
        if not classes:
            met = {row.label for row in rows} | self.of_test()
            classes = [*sort_classes(met - {"", UNSURE, *self.added}), *self.added]
        if self.annotator:
            mine = [row for row in rows if row.annotator == self.annotator and row.label]
            labels = {
                listed.position_of.get(key_of(row.file, self.find), -1): row.label
                for row in doubts_first(mine)
            }
        return View(classes, [labels.get(i) for i in range(len(listed.files))])

    def of_test(self) -> set[str]:
        """The classes of the test set, where there is one."""
        folder = self.photos / "test"
        return {class_of_folder(path) for path in (folders_in(folder) if folder.is_dir() else ())}

    def in_list(self, file: str) -> set[str]:
        """What to_label.csv itself says of an image, in the name of this annotator."""
        path, key = self.run / "to_label.csv", by_path(file)
        rows = LabelFile(path, self.find).rows() if path.exists() else ()
        return {
            x.label for x in rows if x.annotator == self.annotator and key_of(x.file, self.find) == key
        } - {""}

    def answer(self, listed: Listed, index: int, label: str, before: str | None) -> View:
        """Write the answer to an image.

        Args:
            before: the answer that the person saw.

        Raises:
            UserError: there is another answer by now, no such class, or the label files cannot be used;
                nothing is written.
        """
        with editing(self.keeps, self.find, self.book) as file:
            view = self.look(listed)
            now = view.answers[index]
            if now not in (before, label):
                raise UserError(f"another window says {now!r} of this picture: answer again to change it")
            if label != UNSURE and label not in view.classes:
                raise UserError(f"{label!r} is not a class any more: add it, or choose another")
            if self.writable and (said := self.in_list(listed.files[index]) - {label, UNSURE}):
                raise UserError(
                    f"{self.run}/to_label.csv says {said.pop()!r} of this picture: change it there"
                )
            file.answer(listed.files[index], label, self.annotator)
        view.answers[index] = label
        return view

    def add_class(self, listed: Listed, name: str) -> View:
        """Add a class to classes.txt; where there was no such file it gets all that are known.

        Raises:
            UserError: it is not a valid class name.
        """
        name = clean(name)
        check_class(name, "")
        with locked(self.keeps):
            view = self.look(listed)
            if name not in view.classes:
                view.classes.append(name)
                path = self.photos / "classes.txt"
                if path.exists():
                    add_class(self.photos, name)
                elif self.writable:
                    write_lines(path, view.classes)
                else:
                    self.added.append(name)
        return view

    def rename_class(self, listed: Listed, old: str, new: str) -> View:
        """Give a class another name, in classes.txt and in every row of labels.csv and of to_label.csv; a
        name that is a class already takes in the labels of the old one.

        Raises:
            UserError: there is no such class, or the name cannot be used.
        """
        new = clean(new)
        check_class(new, "")
        with locked(self.keeps):
            classes = self.look(listed).classes
            if old not in classes:
                raise UserError(f"{old!r} is not a class any more")
            if not self.writable:
                raise UserError(f"{self.photos} is read-only: its classes cannot be renamed")
            if old in self.of_test():
                raise UserError(f"{self.photos}/test has a folder {old!r}: rename that one first")
            path = self.photos / "classes.txt"
            if path.exists():  # both names, until no row has the old one: a kill leaves what can be read
                add_class(self.photos, new)
            for file in (self.photos / "labels.csv", self.run / "to_label.csv"):
                labels = LabelFile(file, self.find, create=True)
                labels.rename(old, new)
                labels.write()
            renamed = dict.fromkeys(new if name == old else name for name in classes)
            write_lines(path, renamed)
            return self.look(listed)

    def picture(self, name: str) -> tuple[bytes, str]:
        """An image as browsers show it, upright, 1600 pixels a side at most, and its MIME type.

        Raises:
            UserError: it cannot be read.
        """
        try:
            with open(self.photos / name, "rb") as file, open_picture(file, MOST_PIXELS) as image:
                shown = upright(eight_bits(image)).convert("RGB")
        except UnidentifiedImageError:
            raise UserError(f"{name} is not a readable image") from None
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror or error}") from None
        # Pillow's decoders raise many kinds.
        except Exception as error:
            raise UserError(f"{name} cannot be read: {type(error).__name__}: {error}") from None
        shown.thumbnail((MOST_PIXELS, MOST_PIXELS))
        shown.info.clear()  # colors as training sees them: no profile, no transparent color
        data, small = io.BytesIO(), shown.width * shown.height <= AS_PNG
        shown.save(data, **({"format": "PNG"} if small else {"format": "JPEG", "quality": 90}))
        return data.getvalue(), "image/png" if small else "image/jpeg"


def photos_of(run: Path) -> Path:
    """The folder of photographs that a run was started on."""
    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"{run} is not a run folder: it has no config.json")
    content = read_json(path)
    try:
        dataset = content["parameters"]["dataset"]
        photos = Path(content["other_parameters"]["data_dir"])
    except (KeyError, TypeError):
        raise UserError(f"{path} is not the record of a run: it names no dataset or data_dir") from None
    if dataset != "unlabeled":
        raise UserError(
            f"{run} was made with --dataset {dataset}: only a run with --dataset unlabeled asks for labels"
        )
    if not photos.is_dir():
        raise UserError(
            f"{photos}, the folder of photographs of {run}, is not there: start where main.py was started"
        )
    return photos


def read_list(path: Path, find: Find) -> list[str]:
    """The images that a run waits for, in order, as paths below the folder of photographs."""
    listed: dict[str, str] = {}
    for row in LabelFile(path, find).rows():
        file = below_pool(row.file)
        if not row.file or ".." in file.split("/"):
            raise UserError(f"{path} line {row.line}: {row.file!r} is not a path below pool/")
        listed.setdefault(by_path(file), file)
    return list(listed.values())


def read_review(path: Path) -> list[tuple[str, str, str, float]]:
    """The rows of review.csv: file, label, prediction, probability of the label."""
    rows = []
    for number, row in enumerate(csv.DictReader(io.StringIO(decoded(path), newline="")), 2):
        try:
            file, p = row["file_name"], float(row["probability"])
            if ".." in file.split("/") or not file.startswith(("pool/", "test/")):
                raise ValueError
            rows.append((file, row["label"], row["predicted"], p))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{path} line {number} is not as main.py writes it: run main.py again") from None
    return rows


# --- the server


def make_app(task: Task, port: int) -> Flask:
    """The page and what it asks for, for a server on 127.0.0.1:`port`.

    GET /            the page
    GET /run         whose page this is
    GET /now         the name of the list, whether the run is finished: cheap, for a page that waits
    GET /state       the list, the answers, the classes
    GET /image/LIST/INDEX
    POST /answer     {list, index, label, before} -> answers, classes
    POST /class      {name} -> answers, classes
    POST /rename     {name, to} -> answers, classes
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    page = PAGE.read_text(encoding="utf-8")
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
    hosts |= {host.removesuffix(":80") for host in hosts}

    @app.before_request
    def refuse_others() -> None:
        """Another site's page may reach this server, by its address or by a name that it made lead
        here; it cannot choose these headers."""
        if request.headers.get("Host") not in hosts:
            abort(
                403,
                f"open http://{HOST}:{port}: this page has no other name (a tunnel needs the same port)",
            )
        origin = request.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in hosts:
            abort(403, "a page of another site asked for this")

    @app.after_request
    def close_off(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
        return response

    @app.get("/")
    def show_page() -> Response:
        nonce = secrets.token_urlsafe(16)
        response = Response(page.replace("NONCE", nonce), mimetype="text/html")
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )
        return response

    @app.get("/run")
    def show_run() -> Response:
        return jsonify(identity(task))

    @app.get("/now")
    def show_now() -> Response:
        return jsonify(list=task.listed().name, finished=task.finished())

    @app.get("/state")
    def show_state() -> Response:
        listed = task.listed()
        whole = {
            "list": listed.name,
            "files": listed.files,
            "doubts": listed.doubts if task.review else None,
            "elsewhere": listed.elsewhere,
            "finished": task.finished(),
            "run": str(task.run),
            "annotator": task.annotator,
        }
        return jsonify(**whole, **vars(task.view(listed)))

    @app.get("/image/<name>/<int:index>")
    def show_image(name: str, index: int) -> Response:
        listed = task.listed()
        if name != listed.name or index >= len(listed.files):
            abort(404, "no such picture")
        data, kind = task.picture(listed.files[index])
        return Response(data, mimetype=kind)

    @app.post("/answer")
    def take_answer() -> Response:
        body, listed = body_of(list=str, index=int, label=str, before=(str, type(None))), task.listed()
        if body["list"] != listed.name:
            abort(409, "this page shows another list of images: load it again")
        if not 0 <= body["index"] < len(listed.files):
            abort(400, "no such picture")
        return jsonify(vars(task.answer(listed, body["index"], body["label"], body["before"])))

    @app.post("/class")
    def take_class() -> Response:
        return jsonify(vars(task.add_class(task.listed(), body_of(name=str)["name"])))

    @app.post("/rename")
    def take_name() -> Response:
        body = body_of(name=str, to=str)
        return jsonify(vars(task.rename_class(task.listed(), body["name"], body["to"])))

    @app.errorhandler(HTTPException)
    def tell_refusal(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description), error.code or 500

    @app.errorhandler(UserError)
    def tell_mistake(error: UserError) -> tuple[Response, int]:
        return jsonify(error=" ".join(printable(str(error)).split())), 409

    @app.errorhandler(OSError)
    def tell_fault(error: OSError) -> tuple[Response, int]:
        return jsonify(error=f"{error.strerror or error}: {error.filename or 'while writing'}"), 500

    return app


def body_of(**kinds: Any) -> dict[str, Any]:
    """The JSON object that a request brings, which must have these fields of these kinds."""
    body = request.get_json()
    if not isinstance(body, dict):
        abort(400, "no JSON object")
    for name, kind in kinds.items():
        value = body.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            abort(400, f"{name} is missing, or of a wrong kind")
    return body


def identity(task: Task) -> dict[str, Any]:
    """What tells one page from another."""
    return {"run": str(task.run.resolve()), "annotator": task.annotator, "review": task.review}


def serves(port: int, task: Task) -> bool:
    """Whether the page of this task is at a port of this machine."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{HOST}:{port}/run", timeout=2) as answer:
            return json.loads(answer.read(MOST_BYTES)) == identity(task)
    except (OSError, ValueError, http.client.HTTPException):
        return False  # it is something else


def listen(port: int) -> socket.socket:
    """A socket that takes requests of this machine (0: on any free port).

    Raises:
        OSError: the port is taken, or not ours to use.
    """
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # no wait after the last server
    try:
        server.bind((HOST, port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def find_port(port: int | None, task: Task) -> tuple[socket.socket | None, int]:
    """Where the page is served: at `port`, or, if that is None, at 8000 or the next that is free; no
    socket where the page of this task is already.

    Raises:
        UserError: the port that was asked for cannot be used.
    """
    if port is not None and not 0 <= port < 2**16:
        raise UserError(f"--port {port}: ports are 0 to 65535")
    for at in range(PORT, PORT + TRIES) if port is None else (port,):
        try:
            server = listen(at)
            return server, server.getsockname()[1]
        except OSError as error:
            ours = serves(at, task)
            if port is not None:
                hint = f"the page of {task.run} is there already, or " if ours else ""
                raise UserError(
                    f"port {port} cannot be used ({error.strerror}): {hint}give another --port"
                ) from None
            if ours:
                return None, at
    server = listen(0)
    return server, server.getsockname()[1]


def open_browser(address: str) -> None:
    """Show the page, if there is a screen here to show it on. A browser that would take over the terminal
    is not started."""
    far = any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY"))
    screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if far or not (screen or sys.platform in ("darwin", "win32")):
        return
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:  # lynx, w3m
        threading.Thread(target=browser.open, args=(address,), daemon=True).start()


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="a run folder: runs/EXPERIMENT/RUN")
    parser.add_argument("--port", type=int, help="of the page (default: 8000, or the next that is free)")
    parser.add_argument("--annotator", default="", metavar="NAME", help="who labels: a column of labels.csv")
    parser.add_argument(
        "--review", action="store_true", help="show the labels of RUN/review.csv, with what is predicted"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in the browser")
    options = parser.parse_args()
    quiet()
    task = Task(options.run, options.annotator, options.review)
    listed = task.listed()
    waiting, n = task.view(listed).waiting(), len(listed.files)
    if task.review and not n:
        print(f"nothing to review: what is left in {task.source} are names of folders in test/, or nothing")
        return
    if not (task.review or waiting) and (n or task.finished()):
        rest = "is finished" if task.finished() else f"has an answer to all {n} images; main.py can go on"
        print(f"nothing left to label: {task.run} {rest}")
        return
    server, port = find_port(options.port, task)
    address = f"http://{HOST}:{port}"
    if server is None:
        print(f"{address}  the page of {task.run} is there already: it follows the run")
        if not options.no_browser:
            open_browser(address)
        return
    with server:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line a request
        pages = make_server(HOST, port, make_app(task, port), threaded=True, fd=server.fileno())
        what = (
            f"{waiting} of {n} images wait for a label"
            if n
            else "shows the next images that the run asks for"
        )
        what = f"{n} labels look wrong" if task.review else what
        print(f"{address}  {what}; Ctrl-C ends", flush=True)
        if not task.writable:
            print(f"{task.photos} is read-only: answers go to {task.run}/to_label.csv", flush=True)
        if not options.no_browser:
            open_browser(address)
        pages.serve_forever()


if __name__ == "__main__":
    run_script(main)
