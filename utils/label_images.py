"""Label the images that a run waits for, on a page in the browser: one picture
at a time, one key a class. No prediction is shown.

Every answer is on disk before the next picture shows: close the page and end
the program at any time, and go on later. Two windows may be open at once. The
page is for this machine alone: it is served on 127.0.0.1, and asks nothing of
any other.

Keys:    1 to 9, 0, then letters    a class, as its button says
         ?                          cannot tell: not trained on, not asked again
         Backspace, left / right    back / on
         Space / +                  zoom / a new class

Reads:   RUN/config.json, RUN/to_label.csv; of the folder of photographs that
         the run names: images, labels.csv and classes.txt; without classes.txt
         the classes are those of labels.csv and of the folders in test/
Writes:  labels.csv there, and classes.txt when a class is added

Run:     python utils/label_images.py runs/photos/main-confidence
"""

import hashlib
import io
import logging
import secrets
import socket
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from PIL import Image, ImageOps, UnidentifiedImageError
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pt4al.base.console import Parser, UserError, printable, run_script
from pt4al.base.files import read_json, write_lines
from pt4al.data.decoding import eight_bits
from pt4al.data.ids import FORMATS, by_path, sort_classes
from pt4al.person.agreement import read_answers
from pt4al.person.label_forms import images_below
from pt4al.person.labels import (
    UNSURE,
    Find,
    LabelFile,
    add_class,
    below_pool,
    check_class,
    class_of_folder,
    doubts_first,
    editing,
    finder,
    locked,
    read_classes,
)

HOST = "127.0.0.1"
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


class Task:
    """The images that a run waits for, and the labels that one person gives them.

    Attributes:
        photos: the folder of photographs.
        files: the images, as paths below it, in the order of the list.
        find: which image of the whole pool a text names.
        name: a name of this list of images: a page that shows another one is out of date.
    """

    def __init__(self, run: Path, annotator: str = "") -> None:
        """Read the list of a run. With an annotator only answers in that name count.

        Raises:
            UserError: it is no run that waits for labels, or its folder of photographs is not there.
        """
        self.run, self.annotator = run, annotator.strip()
        if not self.annotator.isprintable() or len(self.annotator) > 200:
            raise UserError("--annotator: give a name in one line, 200 letters at most")
        self.photos = photos_of(run)
        pool = self.photos / "pool"
        images = images_below(pool) if pool.is_dir() else ()
        self.find = finder({key_of(str(path.relative_to(self.photos))) for path in images})
        self.files = read_list(run, self.find)
        self.position_of = {key_of(file): i for i, file in enumerate(self.files)}
        whole = "\n".join([str(self.photos.resolve()), *self.files])
        self.name = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def view(self) -> View:
        """As it is now.

        Raises:
            UserError: names the line of labels.csv or classes.txt that cannot be used.
        """
        with locked(self.photos):
            return self.look()

    def look(self) -> View:
        """As `view`, for who holds the lock."""
        sources = self.photos / "labels.csv", self.run / "to_label.csv"
        rows = [row for path in sources if path.exists() for row in LabelFile(path, self.find).rows()]
        classes = read_classes(self.photos, least=1)
        # As main.py reads them: this names the line that it would refuse.
        labels = read_answers(sources, self.position_of, classes, self.find).labels
        if not classes:
            met = {row.label for row in rows} | {class_of_folder(path) for path in class_folders(self.photos)}
            classes = sort_classes(met - {"", UNSURE})
        if self.annotator:
            mine = [row for row in rows if row.annotator == self.annotator and row.label]
            labels = {self.position_of.get(key_of(row.file), -1): row.label for row in doubts_first(mine)}
        return View(classes, [labels.get(i) for i in range(len(self.files))])

    def listed(self, index: int) -> set[str]:
        """What to_label.csv itself says of an image, in the name of this annotator."""
        path, key = self.run / "to_label.csv", key_of(self.files[index])
        rows = LabelFile(path, self.find).rows() if path.exists() else ()
        return {x.label for x in rows if x.annotator == self.annotator and key_of(x.file) == key} - {""}

    def answer(self, index: int, label: str, before: str | None) -> View:
        """Write the answer to an image.

        Args:
            before: the answer that the person saw.

        Raises:
            UserError: there is another answer by now, no such class, or labels.csv cannot be used;
                nothing is written.
        """
        with editing(self.photos, self.find) as file:
            view = self.look()
            now = view.answers[index]
            if now not in (before, label):
                raise UserError(f"another window says {now!r} of this picture: answer again to change it")
            if label != UNSURE and label not in view.classes:
                raise UserError(f"{label!r} is not a class any more: add it, or choose another")
            if said := self.listed(index) - {label, UNSURE}:
                raise UserError(
                    f"{self.run}/to_label.csv says {said.pop()!r} of this picture: change it there"
                )
            file.answer(self.files[index], label, self.annotator)
        view.answers[index] = label
        return view

    def add_class(self, name: str) -> View:
        """Add a class to classes.txt; where there was no such file it gets all that are known.

        Raises:
            UserError: it is not a valid class name.
        """
        name = name.strip()
        check_class(name, "")
        with locked(self.photos):
            view = self.look()
            if name not in view.classes:
                view.classes.append(name)
                path = self.photos / "classes.txt"
                if path.exists():
                    add_class(self.photos, name)
                else:
                    write_lines(path, view.classes)
        return view

    def picture(self, index: int) -> tuple[bytes, str]:
        """An image as browsers show it, upright, 1600 pixels a side at most, and its MIME type.

        Raises:
            UserError: it cannot be read.
        """
        name = self.files[index]
        try:
            with (
                open(self.photos / name, "rb") as file,
                Image.open(file, formats=sorted(FORMATS)) as image,
            ):
                image.draft(None, (MOST_PIXELS, MOST_PIXELS))  # a JPEG is read at a fraction of its size
                shown = ImageOps.exif_transpose(eight_bits(image)).convert("RGB")
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


def read_list(run: Path, find: Find) -> list[str]:
    """The images that a run waits for, in order, as paths below the folder of photographs."""
    path = run / "to_label.csv"
    if not path.exists():
        raise UserError(f"{run} waits for no labels: there is no {path.name}; main.py writes it")
    listed: dict[str, str] = {}
    for row in LabelFile(path, find).rows():
        file = below_pool(row.file)
        if not row.file or ".." in file.split("/"):
            raise UserError(f"{path} line {row.line}: {row.file!r} is not a path below pool/")
        listed.setdefault(key_of(file), file)
    return list(listed.values())


def key_of(file: str) -> str:
    """What an image is known by, however a label file writes its path."""
    return by_path(below_pool(file))


def class_folders(photos: Path) -> list[Path]:
    """Those of the test set, where there is one."""
    return [path for path in photos.glob("test/[!.]*") if path.is_dir()]


# --- the server


def make_app(task: Task, port: int) -> Flask:
    """The page and what it asks for, for a server on 127.0.0.1:`port`.

    GET /            the page
    GET /state       the list, the answers, the classes
    GET /image/LIST/INDEX
    POST /answer     {list, index, label, before} -> answers, classes
    POST /class      {name} -> answers, classes
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

    @app.get("/state")
    def show_state() -> Response:
        whole = {
            "list": task.name,
            "files": task.files,
            "run": str(task.run),
            "annotator": task.annotator,
        }
        return jsonify(**whole, **vars(task.view()))

    @app.get("/image/<name>/<int:index>")
    def show_image(name: str, index: int) -> Response:
        if name != task.name or index >= len(task.files):
            abort(404, "no such picture")
        data, kind = task.picture(index)
        return Response(data, mimetype=kind)

    @app.post("/answer")
    def take_answer() -> Response:
        body = body_of(list=str, index=int, label=str, before=(str, type(None)))
        if body["list"] != task.name:
            abort(409, "this page shows another list of images: load it again")
        if not 0 <= body["index"] < len(task.files):
            abort(400, "no such picture")
        return jsonify(vars(task.answer(body["index"], body["label"], body["before"])))

    @app.post("/class")
    def take_class() -> Response:
        return jsonify(vars(task.add_class(body_of(name=str)["name"])))

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


def listen(port: int) -> socket.socket:
    """A socket that takes requests of this machine (0: on any free port)."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: ports are 0 to 65535")
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # no wait after the last server
    try:
        server.bind((HOST, port))
        server.listen()
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror}): give another --port") from None
    return server


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="a run folder: runs/EXPERIMENT/RUN")
    parser.add_argument("--port", type=int, default=8000, help="of the page (default: 8000)")
    parser.add_argument("--annotator", default="", metavar="NAME", help="who labels: a column of labels.csv")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="PIL")  # of files that it reads all the same
    task = Task(options.run, options.annotator)
    waiting, n = task.view().waiting(), len(task.files)
    if not waiting:
        print(f"nothing left to label: all {n} images of {task.run} have an answer; main.py can go on")
        return
    with listen(options.port) as server:
        port = server.getsockname()[1]
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line a request
        pages = make_server(HOST, port, make_app(task, port), threaded=True, fd=server.fileno())
        print(
            f"http://{HOST}:{port}  {waiting} of {n} images wait for a label; Ctrl-C ends",
            flush=True,
        )
        pages.serve_forever()


if __name__ == "__main__":
    run_script(main)
