"""The page on which a person labels: its rules through Flask's test client, and once by real keys in a browser."""

import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from browsing import Serve, Typist, complaints, requests_of
from flask.testing import FlaskClient
from photographs import own, prepare
from PIL import Image
from shell import load_program, one_error, rows, run, says, user_error
from werkzeug.test import TestResponse

PROGRAM = load_program("label_images")
NAMES = [f"pool/{name}.png" for name in ("a/1", "a/2", "b/1", "3")]
ODD_NAMES = [
    "pool/with space/x y.png", "pool/it's.png", 'pool/say "a".png', "pool/#1.png", "pool/100%25.png",
    "pool/a?b=c&d.png", "pool/größe.png", "pool/🐈.png", "pool/a,b;c.png", "pool/<b>bold</b>.png", "pool/..x/.. y.png",
    "pool/;.png",
]  # fmt: skip


def ask(run_folder: Path, names: list[str], labels: dict[str, str] | None = None) -> None:
    """As main.py does: a list of what is waited for."""
    with (run_folder / "to_label.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "label"])
        writer.writerows([name, (labels or {}).get(name, "")] for name in names)
    (run_folder / "asked.txt").write_text("".join(f"{name}\n" for name in names))


def make_run(folder: Path, names: list[str], labels: dict[str, str] | None = None, **parameters: str) -> Path:
    """A run folder that waits for labels of these images, 8x8 pixels, and its folder of photographs."""
    for i, name in enumerate(names):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 + 10 * i, 90, 200 - 10 * i)).save(path)
    run_folder = folder / "runs/photos/main-confidence"
    run_folder.mkdir(parents=True)
    record = {
        "parameters": {"dataset": "unlabeled", **parameters},
        "other_parameters": {"data_dir": str(folder / "photos")},
    }
    (run_folder / "config.json").write_text(json.dumps(record))
    ask(run_folder, names, labels)
    (run_folder / "asked.txt").unlink()
    return run_folder


class Person:
    """Who sits at a page: knows the answers that it showed last."""

    def __init__(self, run_folder: Path, annotator: str = "", port: int = 8000, review: bool = False) -> None:
        self.task = PROGRAM.Task(run_folder, annotator, review)
        self.client: FlaskClient = PROGRAM.make_app(self.task, port).test_client()
        self.base = f"http://127.0.0.1:{port}"
        self.look()

    def get(self, path: str, **named: Any) -> TestResponse:
        return self.client.get(path, base_url=self.base, **named)

    def post(self, path: str, body: Any, **named: Any) -> TestResponse:
        return self.client.post(path, json=body, base_url=self.base, **named)

    def look(self) -> dict[str, Any]:
        response = self.get("/state")
        assert response.status_code == 200, response.text
        self.shown = response.json
        return self.shown

    def says(self, index: int, label: str, **named: Any) -> TestResponse:
        body = {
            "list": self.shown["list"],
            "index": index,
            "label": label,
            "before": self.shown["answers"][index],
        }
        response = self.post("/answer", body, **named)
        if response.status_code == 200:
            self.shown |= response.json
        return response

    def answers(self, index: int, label: str) -> None:
        response = self.says(index, label)
        assert response.status_code == 200, response.text

    def picture(self, index: int) -> TestResponse:
        return self.get(f"/image/{self.shown['list']}/{index}")

    def pixels(self, index: int) -> np.ndarray:
        response = self.picture(index)
        assert response.status_code == 200, response.text
        with Image.open(io.BytesIO(response.data)) as image:
            assert image.mode == "RGB" and not image.getexif() and "transparency" not in image.info
            return np.asarray(image)


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A run that waits for four images, with the classes cat and dog."""
    run_folder = make_run(tmp_path, NAMES)
    (tmp_path / "photos/classes.txt").write_text("dog\ncat\n")
    return run_folder


def labels_of(folder: Path) -> str:
    return (folder / "photos/labels.csv").read_bytes().decode()


# --- answers


def test_answers_are_in_labels_csv_at_once(waiting: Path, tmp_path: Path):
    listed = (waiting / "to_label.csv").read_bytes()
    person = Person(waiting)
    assert person.shown["files"] == NAMES and person.shown["answers"] == [None] * 4
    assert person.shown["classes"] == ["dog", "cat"] and not (tmp_path / "photos/labels.csv").exists()
    person.answers(0, "cat")
    assert labels_of(tmp_path) == "file_name,label\npool/a/1.png,cat\n"
    person.answers(2, "?")
    person.answers(1, "dog")
    person.answers(0, "dog")  # gone back
    assert labels_of(tmp_path) == "file_name,label\npool/a/1.png,dog\npool/b/1.png,?\npool/a/2.png,dog\n"
    assert person.shown["answers"] == person.look()["answers"] == ["dog", "dog", "?", None]
    assert (waiting / "to_label.csv").read_bytes() == listed


def test_a_file_keeps_its_dialect_its_columns_and_its_other_rows(waiting: Path, tmp_path: Path):
    before = '\ufeffnote;Image;label\r\n"a;b";pool/other.png;dog\r\n;./pool/a/1.png;\r\n'
    (tmp_path / "photos/labels.csv").write_bytes(before.encode())
    person = Person(waiting)
    person.answers(0, "cat")
    person.answers(3, "?")
    assert labels_of(tmp_path) == before.replace("1.png;", "1.png;cat") + ";pool/3.png;?\r\n"


def test_it_goes_on_where_it_was(waiting: Path, tmp_path: Path):
    first = Person(waiting)
    first.answers(0, "cat")
    first.answers(1, "?")
    again = Person(waiting)
    assert again.shown["answers"] == ["cat", "?", None, None] and again.shown["list"] == first.shown["list"]
    assert Person(waiting, "anna").shown["answers"] == [None] * 4


def test_an_annotator_has_answers_of_her_own(waiting: Path, tmp_path: Path):
    anna, ben = Person(waiting, "anna"), Person(waiting, "ben")
    anna.answers(0, "cat")
    anna.answers(1, "cat")
    ben.answers(0, "dog")
    ben.answers(1, "cat")
    assert labels_of(tmp_path) == (
        "file_name,label,annotator\npool/a/1.png,cat,anna\npool/a/2.png,cat,anna\n"
        "pool/a/1.png,dog,ben\npool/a/2.png,cat,ben\n"
    )
    assert anna.look()["answers"] == ["cat", "cat", None, None]
    assert ben.look()["answers"] == ["dog", "cat", None, None]
    assert anna.shown["annotator"] == "anna"
    # Where they disagree there is no answer, and one that names nobody decides.
    nobody = Person(waiting)
    assert nobody.shown["answers"] == [None, "cat", None, None]
    nobody.answers(0, "dog")
    assert labels_of(tmp_path).endswith("pool/a/1.png,dog,\n") and nobody.look()["answers"][0] == "dog"


def test_labels_of_a_file_without_annotators_stay_when_one_comes(waiting: Path, tmp_path: Path):
    Person(waiting).answers(0, "cat")
    Person(waiting, "anna").answers(0, "dog")
    assert labels_of(tmp_path) == "file_name,label,annotator\npool/a/1.png,cat,\npool/a/1.png,dog,anna\n"


def test_a_label_in_the_list_is_an_answer(tmp_path: Path):
    run_folder = make_run(tmp_path, NAMES, {NAMES[3]: "cat", NAMES[2]: "?"})
    (tmp_path / "photos/classes.txt").write_text("dog\ncat\n")
    listed = (run_folder / "to_label.csv").read_bytes()
    person = Person(run_folder)
    assert person.shown["answers"] == [None, None, "?", "cat"]
    refused = person.says(3, "dog")  # two labels for one image: main.py would refuse both
    assert refused.status_code == 409
    says(refused.json["error"], "to_label.csv", "'cat'")
    assert not (tmp_path / "photos/labels.csv").exists()
    person.answers(3, "cat")
    assert labels_of(tmp_path) == "file_name,label\npool/3.png,cat\n"
    anna = Person(run_folder, "anna")
    assert anna.shown["answers"] == [None] * 4
    anna.answers(3, "dog")
    assert (run_folder / "to_label.csv").read_bytes() == listed


@pytest.mark.parametrize("who", ["", "anna"])
def test_a_class_counts_before_a_doubt_in_the_list(who: str, tmp_path: Path):
    run_folder = make_run(tmp_path, NAMES, {NAMES[3]: "?"})
    path = run_folder / "to_label.csv"
    path.write_text(f"file_name,label,annotator\n{NAMES[3]},?,{who}\n{NAMES[2]},cat,{who}\n")
    (tmp_path / "photos/classes.txt").write_text("dog\ncat\n")
    person = Person(run_folder, who)
    assert person.shown["answers"] == ["?", "cat"]
    person.answers(0, "dog")
    assert person.look()["answers"] == ["dog", "cat"]
    assert person.says(1, "?").status_code == 409  # the class in the list would stand
    person.answers(0, "?")
    assert person.look()["answers"] == ["?", "cat"]


def test_a_list_that_is_filled_in_meanwhile(waiting: Path):
    person = Person(waiting)
    path = waiting / "to_label.csv"
    path.write_text(path.read_text().replace("a/2.png,", "a/2.png,dog"))  # in a spreadsheet
    assert person.says(1, "cat").status_code == 409
    assert person.look()["answers"] == [None, "dog", None, None]
    path.unlink()  # main.py went on
    person.answers(0, "cat")
    assert person.shown["answers"] == ["cat", None, None, None]


def test_names_alike_but_for_their_first_folders(tmp_path: Path):
    names = ["pool/x/b/c/1.png", "pool/y/b/c/1.png"]
    person = Person(make_run(tmp_path, names))
    person.post("/class", {"name": "cat"})
    person.answers(1, "cat")
    assert labels_of(tmp_path) == "file_name,label\npool/y/b/c/1.png,cat\n"
    assert person.look()["answers"] == [None, "cat"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_file_names(name: str, tmp_path: Path):
    run_folder = make_run(tmp_path, ["pool/0.png", name, "pool/z.png"])
    (tmp_path / "photos/classes.txt").write_text("a class\n")
    person = Person(run_folder)
    assert person.shown["files"] == ["pool/0.png", name, "pool/z.png"]
    assert person.pixels(1).tolist() == [[[50, 90, 190]] * 8] * 8
    person.answers(1, "a class")
    with (tmp_path / "photos/labels.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["file_name", "label"], [name, "a class"]]
    assert person.look()["answers"] == [None, "a class", None]


# --- two windows


def test_two_windows_lose_no_answer(waiting: Path, tmp_path: Path):
    left, right = Person(waiting), Person(waiting)
    left.answers(0, "cat")
    right.answers(1, "dog")
    assert right.shown["answers"] == ["cat", "dog", None, None]  # moving on skips the first
    refused = left.says(1, "cat")  # an image that left has not seen the answer of
    assert refused.status_code == 409
    says(refused.json["error"], "another window", "'dog'")
    assert labels_of(tmp_path) == "file_name,label\npool/a/1.png,cat\npool/a/2.png,dog\n"
    left.answers(2, "?")
    left.answers(1, "cat")  # now that it has
    assert labels_of(tmp_path) == "file_name,label\npool/a/1.png,cat\npool/a/2.png,cat\npool/b/1.png,?\n"
    again = right.post("/answer", {"list": right.shown["list"], "index": 2, "label": "?", "before": None})
    assert again.status_code == 200  # the same answer twice is one


def test_two_servers_at_the_same_moment(tmp_path: Path):
    names = [f"pool/{i:02}.png" for i in range(40)]
    run_folder = make_run(tmp_path, names)
    (tmp_path / "photos/classes.txt").write_text("".join(f"{i}\n" for i in range(40)))
    people = [Person(run_folder) for _ in range(4)]

    def work(i: int) -> None:
        people[i % 4].answers(i, str(i))
        people[i % 4].look()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(40)))
    assert Person(run_folder).shown["answers"] == [str(i) for i in range(40)]


def test_a_page_of_another_list_is_told(waiting: Path, tmp_path: Path):
    old = Person(waiting)
    listed = (waiting / "to_label.csv").read_text().splitlines()
    (waiting / "to_label.csv").write_text("\n".join([listed[0], *listed[:0:-1]]) + "\n")
    new = Person(waiting)
    body = {"list": old.shown["list"], "index": 0, "label": "cat", "before": None}
    assert new.post("/answer", body).status_code == 409
    assert new.get(f"/image/{old.shown['list']}/0").status_code == 404
    assert not (tmp_path / "photos/labels.csv").exists()


# --- classes


def test_classes_are_those_met_until_one_is_added(tmp_path: Path):
    run_folder = make_run(tmp_path, NAMES)
    photos = tmp_path / "photos"
    (photos / "labels.csv").write_text(
        "file_name,label\npool/o.png,10\npool/a/1.png,9\npool/b/1.png,?\npool/3.png,\n"
    )
    person = Person(run_folder)
    assert person.shown["classes"] == ["9", "10"] and not (photos / "classes.txt").exists()
    response = person.post("/class", {"name": "  001 "})
    assert response.json == {"classes": ["9", "10", "001"], "answers": ["9", None, "?", None]}
    assert (photos / "classes.txt").read_text() == "9\n10\n001\n"
    person.answers(1, "001")
    assert person.look()["classes"] == ["9", "10", "001"]


def test_classes_of_the_test_set_are_known(tmp_path: Path):
    run_folder = make_run(tmp_path, NAMES)
    for name in ("dog", "cat", ".hidden", "@eaDir", " Bär", "Ba\u0308r"):  # composed or not, it is one
        (tmp_path / "photos/test" / name).mkdir(parents=True)
    (tmp_path / "photos/labels.csv").write_text("file_name,label\npool/o.png,Bär\n")
    person = Person(run_folder)
    assert person.shown["classes"] == ["Bär", "cat", "dog"]
    person.post("/class", {"name": "ape"})
    assert (tmp_path / "photos/classes.txt").read_text() == "Bär\ncat\ndog\nape\n"


def test_a_class_is_shown_once_however_its_folder_spells_it(tmp_path: Path):
    run_folder = make_run(tmp_path, NAMES)
    for name in ("Ka\u0308fer", "K\u00e4fer", " cat "):
        (tmp_path / "photos/test" / name).mkdir(parents=True)
    (tmp_path / "photos/labels.csv").write_text("file_name,label\npool/o.png,K\u00e4fer\npool/a/1.png,cat\n")
    person = Person(run_folder)
    assert person.shown["classes"] == ["K\u00e4fer", "cat"]
    (tmp_path / "photos/test/?").mkdir()
    with user_error("photos/test/?", "'?'"):
        person.task.view(person.task.listed())


def test_the_first_class_of_all(tmp_path: Path):
    person = Person(make_run(tmp_path, NAMES))
    assert person.shown["classes"] == []
    assert person.says(0, "cat").status_code == 409
    assert person.post("/class", {"name": "<cat> & co"}).json["classes"] == ["<cat> & co"]
    person.answers(0, "<cat> & co")
    assert labels_of(tmp_path) == "file_name,label\npool/a/1.png,<cat> & co\n"


def test_a_class_is_added_at_the_end_and_once(waiting: Path, tmp_path: Path):
    left, right = Person(waiting), Person(waiting)
    assert left.post("/class", {"name": "bird"}).json["classes"] == ["dog", "cat", "bird"]
    assert right.post("/class", {"name": "bird"}).json["classes"] == ["dog", "cat", "bird"]
    assert right.post("/class", {"name": "ape"}).json["classes"] == ["dog", "cat", "bird", "ape"]
    assert (tmp_path / "photos/classes.txt").read_text() == "dog\ncat\nbird\nape\n"


@pytest.mark.parametrize("name", ["", "  ", "?", "a\nb", "a\x00b", "\x1b[2J", "x" * 201, "\ud800"])
def test_no_name_for_a_class(name: str, waiting: Path, tmp_path: Path):
    response = Person(waiting).post("/class", {"name": name})
    assert response.status_code == 409 and "class" in response.json["error"]
    assert "\n" not in response.json["error"]
    assert (tmp_path / "photos/classes.txt").read_text() == "dog\ncat\n"


def test_a_class_that_is_none_is_refused(waiting: Path, tmp_path: Path):
    person = Person(waiting)
    for label in ("bird", "", "Cat", "??"):
        assert person.says(0, label).status_code == 409
    assert not (tmp_path / "photos/labels.csv").exists()


def test_a_class_is_renamed_in_every_row(tmp_path: Path):
    run_folder = make_run(tmp_path, NAMES, {NAMES[3]: "cat"})
    photos = tmp_path / "photos"
    before = "Image;label;annotator;note\r\npool/o.png;cat;;x\r\npool/a/1.png; cat ;anna;cat\r\npool/b/1.png;dog;;\r\n"
    (photos / "labels.csv").write_bytes(before.encode())
    person = Person(run_folder)
    assert person.shown["classes"] == ["cat", "dog"]
    renamed = person.post("/rename", {"name": "cat", "to": " lynx "}).json
    assert renamed["classes"] == ["lynx", "dog"] and renamed["answers"][3] == "lynx"  # its key stays
    rows = before.replace("png;cat", "png;lynx").replace("; cat ;", ";lynx;")
    assert labels_of(tmp_path) == rows and (photos / "classes.txt").read_text() == "lynx\ndog\n"
    assert (run_folder / "to_label.csv").read_text().endswith(f"{NAMES[3]},lynx\n")
    # A name that is a class already takes the other in.
    assert person.post("/rename", {"name": "dog", "to": "lynx"}).json["classes"] == ["lynx"]
    assert labels_of(tmp_path) == rows.replace("png;dog", "png;lynx")
    (photos / "test/lynx").mkdir(parents=True)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for old, new, told in (
        ("dog", "wolf", "'dog'"), ("lynx", "?", "'?'"), ("lynx", "", "''"), ("lynx", "wolf", "test"),
    ):  # fmt: skip
        response = person.post("/rename", {"name": old, "to": new})
        assert response.status_code == 409 and told in response.json["error"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept


@pytest.mark.parametrize("writes", range(4))
def test_a_renaming_that_is_cut_short_can_be_read_and_done_again(
    writes: int, waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    person = Person(waiting)
    person.answers(0, "cat")
    (waiting / "to_label.csv").write_text(f"file_name,label\n{NAMES[0]},\n{NAMES[1]},cat\n")
    person.look()
    left, write = [writes], PROGRAM.write_lines.__globals__["write_bytes"]

    def stop(path: Path, data: bytes) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "full", str(path))
        left[0] -= 1
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("pt4al.person.labels.write_bytes", stop)
        patch.setattr("pt4al.base.files.write_bytes", stop)
        assert person.post("/rename", {"name": "cat", "to": "lynx"}).status_code == 500
    assert {*person.look()["answers"][:2]} <= {"cat", "lynx"}
    assert person.post("/rename", {"name": "cat", "to": "lynx"}).json == {
        "classes": ["dog", "lynx"], "answers": ["lynx", "lynx"],
    }  # fmt: skip
    assert "cat" not in labels_of(tmp_path) + (waiting / "to_label.csv").read_text()


# --- from stop to stop


def test_the_page_follows_the_run(waiting: Path, tmp_path: Path):
    person = Person(waiting)
    now = person.get("/now").json
    assert now == {"list": person.shown["list"], "finished": False}
    for i in range(4):
        person.answers(i, "cat")
    ask(waiting, NAMES)
    (waiting / "to_label.csv").unlink()  # main.py trains
    assert person.get("/now").json == now and person.look()["answers"] == ["cat"] * 4
    assert Person(waiting).shown["files"] == []  # a page that is opened now waits
    (tmp_path / "photos/pool/new.png").write_bytes((tmp_path / "photos" / NAMES[0]).read_bytes())
    ask(waiting, ["pool/new.png", NAMES[0]])
    assert person.get("/now").json["list"] != now["list"]
    assert person.says(0, "dog").status_code == 409  # of the old list
    assert person.look()["files"] == ["pool/new.png", NAMES[0]] and person.shown["answers"] == [None, "cat"]
    person.answers(0, "dog")
    assert person.pixels(0).shape == (8, 8, 3) and labels_of(tmp_path).endswith("pool/new.png,dog\n")
    (waiting / "to_label.csv").unlink()
    (waiting / "predictions.csv").write_text("file_name\n")
    assert person.get("/now").json["finished"] is True
    done = run(tmp_path, "utils/label_images.py", str(waiting))
    says(done.stdout, "nothing left to label", "is finished")
    ask(waiting, ["pool/new.png"])  # more cycles
    assert person.get("/now").json["finished"] is False


@pytest.mark.parametrize("who", ["", "anna"])
def test_answers_to_read_only_photographs_go_to_the_list(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_folder = make_run(tmp_path, NAMES)
    photos = tmp_path / "photos"
    before = sorted(photos.rglob("*"))
    monkeypatch.setattr(PROGRAM.os, "access", lambda path, mode: Path(path) != photos)
    person = Person(run_folder, who)
    assert person.post("/class", {"name": "dog"}).json["classes"] == ["dog"]
    assert person.post("/class", {"name": "cat"}).json["classes"] == ["dog", "cat"]
    person.answers(1, "cat")
    person.answers(0, "?")
    person.answers(1, "dog")
    assert person.look()["answers"] == ["?", "dog", None, None] and person.shown["files"] == NAMES
    table = [(x["file_name"], x["label"], x.get("annotator", "")) for x in rows(run_folder / "to_label.csv")]
    assert {*table} >= {(NAMES[0], "?", who), (NAMES[1], "dog", who)}
    response = person.post("/rename", {"name": "dog", "to": "wolf"})
    assert response.status_code == 409 and "read-only" in response.json["error"]
    assert sorted(photos.rglob("*")) == before


# --- a review


def test_a_review_shows_the_doubtful_labels_that_still_stand(waiting: Path, tmp_path: Path):
    labels = dict(zip(NAMES, ("cat", "dog", "cat", "?"), strict=True))
    (tmp_path / "photos/labels.csv").write_text(
        "file_name,label\n" + "".join(f"{name},{label}\n" for name, label in labels.items())
    )
    doubts = [
        (NAMES[2], "cat", "dog", 0.001), ("test/cat/1.png", "cat", "dog", 0.01), (NAMES[0], "cat", "cat", 0.5),
        (NAMES[1], "cat", "dog", 0.6),  # was changed since
    ]  # fmt: skip
    text = "".join(",".join(map(str, row)) + "\n" for row in doubts)
    (waiting / "review.csv").write_text("file_name,label,predicted,probability\n" + text)
    person = Person(waiting, review=True)
    assert person.shown["files"] == [NAMES[2], NAMES[0]] and person.shown["answers"] == ["cat", "cat"]
    assert person.shown["doubts"] == [["cat", "dog", 0.001], ["cat", "cat", 0.5]]
    assert person.shown["elsewhere"] == 1 and person.pixels(0).shape == (8, 8, 3)
    person.answers(0, "dog")
    assert f"{NAMES[2]},dog\n" in labels_of(tmp_path)
    assert Person(waiting, review=True).shown["files"] == [NAMES[0]]
    assert Person(waiting).shown["doubts"] is None  # but there no prediction is shown


@pytest.mark.parametrize(
    "text",
    ["file_name,label\npool/a/1.png,cat\n", "file_name,label,predicted,probability\npool/../x,a,b,0\n",
     "file_name,label,predicted,probability\npool/x,a,b,\n", None],
)  # fmt: skip
def test_what_is_no_review_is_told_in_a_line(text: str | None, waiting: Path, tmp_path: Path):
    if text:
        (waiting / "review.csv").write_text(text)
    done = run(tmp_path, "utils/label_images.py", str(waiting), "--review", status=2)
    one_error(done.stderr, "label_images.py", "review.csv", "main.py")


# --- faults while the page is open


@pytest.mark.parametrize(
    "broken, told",
    [
        (b"file_name,label\npool/a/1.png,cat,x\n", ("labels.csv line 2", " 3 fields")),
        (b"file_name,label\npool/a/1.png,catt\n", ("labels.csv line 2", "'catt'", "classes.txt", "'cat'?")),
        (b"file_name,label\npool/a/1.png,cat\npool/a/1.png,dog\n", ("labels.csv line 3", "pool/a/1.png", "'cat'")),
        (b"file_name,class\n", ("labels.csv line 1", "column label")),
        (b"file_name,label\nx,\xff\n", ("labels.csv line 2", "UTF-8")),
        (b"", ("labels.csv line 1", "column file_name")),
    ],
)  # fmt: skip
def test_a_broken_file_is_told_and_stays_as_it_is(
    broken: bytes, told: tuple[str, ...], waiting: Path, tmp_path: Path
):
    person = Person(waiting)
    person.answers(1, "dog")
    path = tmp_path / "photos/labels.csv"
    path.write_bytes(broken)
    for response in (
        person.says(0, "cat"),
        person.get("/state"),
        person.post("/class", {"name": "x"}),
    ):
        assert response.status_code == 409
        says(response.json["error"], *told)
    assert path.read_bytes() == broken and (tmp_path / "photos/classes.txt").read_text() == "dog\ncat\n"
    path.write_text("file_name,label\npool/a/2.png,dog\n")  # mended
    person.answers(0, "cat")
    assert labels_of(tmp_path) == "file_name,label\npool/a/2.png,dog\npool/a/1.png,cat\n"


def test_a_full_disk_is_told(waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    person = Person(waiting)
    person.answers(0, "cat")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "labels.csv")

    with monkeypatch.context() as patch:
        patch.setattr("pt4al.person.labels.write_bytes", full)
        response = person.says(1, "dog")
    assert response.status_code == 500
    says(response.json["error"], os.strerror(errno.ENOSPC), "labels.csv")
    assert person.look()["answers"] == ["cat", None, None, None]


# --- pictures

LEFT_RED = np.array([[[255, 0, 0], [0, 0, 255]]] * 2, np.uint8)  # 2x2: red on the left, blue on the right


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., np.ndarray]:
    """The pixels that the page shows of an image, which is saved by Pillow."""

    def save_and_show(image: Image.Image, ending: str, **options: Any) -> np.ndarray:
        run_folder = make_run(tmp_path, [])
        name = f"pool/x.{ending}"
        (tmp_path / "photos/pool").mkdir(parents=True)
        image.save(tmp_path / "photos" / name, **options)
        (run_folder / "to_label.csv").write_text(f"file_name,label\n{name},\n")
        return Person(run_folder).pixels(0)

    return save_and_show


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_pictures_are_upright(ending: str, show: Callable[..., np.ndarray]):
    turned = (
        Image.fromarray(LEFT_RED)
        .transpose(Image.Transpose.ROTATE_90)
        .resize((40, 60), Image.Resampling.NEAREST)
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # as a camera does: turn it by 90 degrees clockwise to look at it
    pixels = show(turned, ending, exif=exif)
    assert pixels.shape == (40, 60, 3)
    assert (pixels[:, 5] @ [1, 0, -1] > 150).all() and (pixels[:, -5] @ [1, 0, -1] < -150).all()


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_pictures_with_damaged_exif_are_shown(ending: str, show: Callable[..., np.ndarray]):
    pixels = show(Image.fromarray(LEFT_RED), ending, exif=b"Exif\0\0garbage", lossless=True)
    assert (pixels == LEFT_RED).all()


@pytest.mark.parametrize("ending", ["tif", "ppm", "bmp", "gif", "tga", "pcx"])
def test_formats_that_browsers_do_not_show(ending: str, show: Callable[..., np.ndarray]):
    assert (show(Image.fromarray(LEFT_RED), ending) == LEFT_RED).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_shown_by_their_upper_eight(ending: str, show: Callable[..., np.ndarray]):
    grey = np.array([[0, 2**12], [2**15, 2**16 - 1]], np.uint16)
    assert show(Image.fromarray(grey), ending)[..., 1].tolist() == [[0, 16], [128, 255]]


@pytest.mark.parametrize("mode, clear", [("P", 0), ("RGB", (255, 0, 0)), ("RGBA", None)])
def test_what_is_transparent_shows_as_training_sees_it(
    mode: str, clear: object, show: Callable[..., np.ndarray]
):
    image = Image.fromarray(LEFT_RED).convert(mode, palette=Image.Palette.ADAPTIVE)
    if mode == "RGBA":
        image.putalpha(0)
    assert (show(image, "png", **({} if clear is None else {"transparency": clear})) == LEFT_RED).all()


def test_cmyk_is_shown(show: Callable[..., np.ndarray]):
    pixels = show(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "jpg")
    assert (abs(pixels.astype(int) - [255, 0, 0]) < 12).all()


def test_large_pictures_are_made_smaller(show: Callable[..., np.ndarray]):
    image = Image.new("RGB", (3000, 1500))
    image.paste((255, 0, 0), (0, 0, 1500, 1500))
    pixels = show(image, "jpg")
    assert pixels.shape == (800, 1600, 3)
    assert (pixels[:, :790, 0] > 240).all() and (pixels[:, 810:, 0] < 15).all()


def test_a_picture_that_cannot_be_read_is_told_and_can_be_answered(waiting: Path, tmp_path: Path):
    photos = tmp_path / "photos"
    (photos / NAMES[0]).write_bytes(b"no image")
    (photos / NAMES[1]).unlink()
    (photos / NAMES[2]).write_bytes((photos / NAMES[2]).read_bytes()[:-30])
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(photos / NAMES[3], format="TIFF")
    person = Person(waiting)
    for i, part in enumerate(("read", os.strerror(errno.ENOENT), "read", "float")):
        response = person.picture(i)
        assert response.status_code == 409
        assert response.json["error"].startswith(NAMES[i]) and str(tmp_path) not in response.json["error"]
        says(response.json["error"], part)
        person.answers(i, "?")
    assert labels_of(tmp_path).count(",?\n") == 4


def test_a_pool_may_be_linked_in(waiting: Path, tmp_path: Path):
    shutil.move(tmp_path / "photos/pool", tmp_path / "large disk")
    (tmp_path / "photos/pool").symlink_to(tmp_path / "large disk")
    assert Person(waiting).pixels(0).shape == (8, 8, 3)


# --- who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8000"}, {"Host": "127.0.0.1"}, {"Host": "127.0.0.1:8001"},
        {"Host": "127.0.0.1.evil.example:8000"}, {"Host": ""}, {"Origin": "https://evil.example"}, {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8001"}, {"Origin": "https://127.0.0.1:8000"}, {"Origin": "http://127.0.0.1:8000.evil.example"},
    ],
)  # fmt: skip
def test_other_sites_are_refused(headers: dict[str, str], waiting: Path, tmp_path: Path):
    person = Person(waiting)
    assert person.says(0, "cat", headers=headers).status_code == 403
    assert person.post("/class", {"name": "bird"}, headers=headers).status_code == 403
    for path in ("/", "/state", f"/image/{person.shown['list']}/0"):
        assert person.get(path, headers=headers).status_code == 403
    assert not (tmp_path / "photos/labels.csv").exists()
    assert (tmp_path / "photos/classes.txt").read_text() == "dog\ncat\n"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000"])
def test_the_page_itself_is_not(host: str, waiting: Path):
    person = Person(waiting)
    assert person.says(0, "cat", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200
    assert Person(waiting, port=80).get("/state", headers={"Host": "127.0.0.1"}).status_code == 200


GOOD = {"list": "LIST", "index": 0, "label": "cat", "before": None}


@pytest.mark.parametrize(
    "body, status",
    [
        *((GOOD | change, 400) for change in (
            {"index": 4}, {"index": -1}, {"index": True}, {"index": 1.0}, {"index": "0"}, {"index": None},
            {"label": None}, {"label": ["cat"]}, {"before": 0}, {"list": None},
        )),
        (GOOD | {"list": "other"}, 409), ([], 400), ("cat", 400), ({}, 400),
        (GOOD | {"label": "x" * 20_000}, 413),
    ],
)  # fmt: skip
def test_bad_requests_change_nothing(body: Any, status: int, waiting: Path, tmp_path: Path):
    person = Person(waiting)
    if isinstance(body, dict) and body.get("list") == "LIST":
        body = body | {"list": person.shown["list"]}
    response = person.post("/answer", body)
    assert response.status_code == status and response.json["error"]
    assert not (tmp_path / "photos/labels.csv").exists()


@pytest.mark.parametrize(
    "kind, status",
    [("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("application/json", 400)],
)
def test_only_json_is_taken(kind: str, status: int, waiting: Path, tmp_path: Path):
    person = Person(waiting)
    text = json.dumps(GOOD | {"list": person.shown["list"]})
    text = text[:-1] if kind == "application/json" else text  # cut short
    response = person.client.post("/answer", data=text, content_type=kind, base_url=person.base)
    assert response.status_code == status
    assert person.get("/answer?index=0&label=cat").status_code == 405
    assert not (tmp_path / "photos/labels.csv").exists()


@pytest.mark.parametrize("path", ["4", "-1", "../../labels.csv", "..%2f..%2flabels.csv", "%2fetc%2fpasswd",
                                  "0/../../../labels.csv", "/etc/passwd", "pool/a/1.png"])  # fmt: skip
def test_nothing_but_images_of_the_list_is_served(path: str, waiting: Path):
    person = Person(waiting)
    person.answers(0, "cat")
    for start in (f"/image/{person.shown['list']}/", "/image/", "/static/", "/"):
        assert person.get(start + path).status_code == 404


def test_the_page_names_no_other_address_and_runs_no_other_script(waiting: Path):
    page = Person(waiting).get("/")
    assert page.status_code == 200 and page.mimetype == "text/html"
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", re.sub(r"(?m)(^| )// .*$", "", page.text))
    nonces = set(re.findall(r'nonce="([^"]+)"', page.text))
    policy = page.headers["Content-Security-Policy"]
    assert (
        len(nonces) == 1 and f"script-src 'nonce-{nonces.pop()}'" in policy and "default-src 'none'" in policy
    )
    assert not re.search(r"\son\w+=|innerHTML", page.text)


# --- the program


def test_ctrl_c_ends_it_with_a_line(waiting: Path, served: Serve):
    process, address = served(waiting)
    port = int(address.rpartition(":")[2])
    for path in (b"/", b"/state", b"/nothing"):
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"GET %s HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n" % (path, port))
            assert line.makefile("rb").readline().split()[1] == (b"404" if path == b"/nothing" else b"200")
    with pytest.raises(ConnectionRefusedError):  # it listens on 127.0.0.1 alone
        socket.create_connection(("127.0.0.2", port))
    other = run(waiting, "utils/label_images.py", str(waiting), "--port", str(port), status=2)
    one_error(other.stderr, "label_images.py", f" {port} ", os.strerror(errno.EADDRINUSE), "--port")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "" and len(err.split("\n")) == 3 and "SIGINT" in err


def test_a_second_start_leads_to_the_first_page(
    waiting: Path, served: Serve, monkeypatch: pytest.MonkeyPatch
):
    _, address = served(waiting)
    port = int(address.rpartition(":")[2])
    monkeypatch.setattr(PROGRAM, "PORT", port)
    assert PROGRAM.find_port(None, PROGRAM.Task(waiting)) == (None, port)
    for other in (PROGRAM.Task(waiting, "anna"), PROGRAM.Task(make_run(waiting.parent / "other", NAMES))):
        server, free = PROGRAM.find_port(None, other)
        with server:
            assert port < free
    with pytest.raises(PROGRAM.UserError, match=f"{port} .*page of .* is there already"):
        PROGRAM.find_port(port, PROGRAM.Task(waiting))


@pytest.mark.parametrize(
    "environment, kind, opened",
    [
        ({"DISPLAY": ":0"}, "BackgroundBrowser", True),
        ({"WAYLAND_DISPLAY": "w"}, "BackgroundBrowser", True),
        ({}, "BackgroundBrowser", False),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, "BackgroundBrowser", False),
        ({"DISPLAY": ":0"}, "GenericBrowser", False),  # in the terminal
    ],
)
def test_a_browser_opens_where_there_is_a_screen(
    environment: dict[str, str], kind: str, opened: bool, monkeypatch: pytest.MonkeyPatch
):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(PROGRAM.sys, "platform", "linux")
    browser, asked = getattr(PROGRAM.webbrowser, kind)("x"), Queue()
    browser.open = asked.put
    monkeypatch.setattr(PROGRAM.webbrowser, "get", lambda: browser)
    PROGRAM.open_browser("http://127.0.0.1:8000")
    assert (asked.get(timeout=60) if opened else asked.empty()) == (
        "http://127.0.0.1:8000" if opened else True
    )


Damage = Callable[[Path, Path], object]  # of the run and the photographs


def listing(text: str) -> Damage:
    return lambda run, _: (run / "to_label.csv").write_text(text)


def record(text: str) -> Damage:
    return lambda run, _: (run / "config.json").write_text(text)


def photographs(name: str, text: str) -> Damage:
    return lambda _, photos: (photos / name).write_text(text)


OTHER = '{"parameters": {"dataset": "digits"}, "other_parameters": {"data_dir": "."}}'
BAD: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no run": (lambda run, _: shutil.rmtree(run), ("runs/photos/main-confidence", "config.json")),
    "no list": (lambda run, _: (run / "to_label.csv").unlink(), ("runs/photos/main-confidence", "to_label.csv")),
    "no photos": (lambda _, photos: shutil.rmtree(photos), ("/photos", "main.py")),
    "record cut": (record('{"par'), ("config.json", "JSON")),
    "record of a list": (record("[]"), ("config.json", "record of a run")),
    "record without data": (record('{"parameters": {"dataset": "x"}}'), ("config.json", "record of a run")),
    "other data": (record(OTHER), ("--dataset unlabeled",)),
    "list without header": (listing("pool/x.png,\n"), ("to_label.csv line 1", "column file_name")),
    "path out": (listing("file_name,label\npool/../../x,\n"), ("to_label.csv line 2", "'pool/../../x'", "pool/")),
    "no path": (listing("file_name,label\n,cat\n"), ("to_label.csv line 2", "''", "path")),
    "labels no CSV": (photographs("labels.csv", 'file_name,label\n"x,\n'), ("labels.csv line 2", "CSV")),
    "unknown class": (photographs("labels.csv", f"file_name,label\n{NAMES[1]},catt\n"),
                      ("labels.csv line 2", "'catt'", "classes.txt", "'cat'?")),
    "class twice": (photographs("classes.txt", "a\na\n"), ("classes.txt", "'a' twice")),
    "labels a folder": (lambda _, photos: (photos / "labels.csv").mkdir(), ("labels.csv",)),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_a_line(what: str, waiting: Path, tmp_path: Path):
    damage, told = BAD[what]
    damage(waiting, tmp_path / "photos")
    done = run(tmp_path, "utils/label_images.py", str(waiting), status=2)
    assert done.stdout == ""
    one_error(done.stderr, "label_images.py", *told)


@pytest.mark.parametrize("flags", [["--port", "70000"], ["--port", "-1"], ["--annotator", "a\nb"]])
def test_bad_flags_are_told_in_a_line(flags: list[str], waiting: Path, tmp_path: Path):
    done = run(tmp_path, "utils/label_images.py", str(waiting), *flags, status=2)
    one_error(done.stderr, "label_images.py", flags[0])


def test_nothing_left_to_label(tmp_path: Path):
    run_folder = make_run(tmp_path, NAMES)
    record = json.loads((run_folder / "config.json").read_text())
    record["other_parameters"]["data_dir"] = "./photos"  # below the folder where the program starts
    (run_folder / "config.json").write_text(json.dumps(record))
    labels = "".join(f"{name},{'?' if name == NAMES[2] else 'cat'}\n" for name in NAMES)
    (tmp_path / "photos/labels.csv").write_text("file_name,label\n" + labels)
    done = run(tmp_path, "utils/label_images.py", "runs/photos/main-confidence")
    assert done.stderr == "" and done.stdout.count("\n") == 1
    says(done.stdout, " 4 images", "runs/photos/main-confidence", "main.py")
    assert labels_of(tmp_path) == "file_name,label\n" + labels


@pytest.mark.slow
def test_main_goes_on_with_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What main.py asks for is what the page shows, and what the page writes is what it trains with."""
    names = [f"pool/{i:02}.png" for i in range(30)]
    shutil.rmtree(make_run(tmp_path, names))
    truth = {name: "light" if i < 15 else "dark" for i, name in enumerate(names)}
    lines = [f"{name},{label}\n" for name, label in truth.items()]
    (tmp_path / "truth.csv").write_text("file_name,label\n" + "".join(lines))
    prepare(tmp_path)
    flags = ["--labels-per-cycle", "6", "--candidates", "all"]
    monkeypatch.chdir(tmp_path)
    for cycle in range(2):
        own(tmp_path, "main.py", *flags, status=3)
        person = Person(tmp_path / "runs/own/main-confidence")
        if cycle == 0:
            person.post("/class", {"name": "light"})
            person.post("/class", {"name": "dark"})
        chosen = (person.task.run / f"labeled/cycle_{cycle}.txt").read_text().split()
        assert person.shown["files"] == chosen and person.shown["answers"] == [None] * 6
        for i, name in enumerate(chosen):
            person.answers(i, "?" if i == 3 else truth[name])
    own(tmp_path, "main.py", *flags)
    used = {x["file_name"]: x["label"] for x in rows(person.task.run / "labeled/cycle_1.csv")}
    assert len(used) == 10 and used == {name: truth[name] for name in used}


# --- in a browser, by real keys


def test_ten_images_by_keys(tmp_path: Path, browser: Any, served: Serve):
    from selenium.webdriver.common.keys import Keys

    names = [f"pool/{i}.png" for i in range(10)]
    run_folder = make_run(tmp_path, names)
    photos = tmp_path / "photos"
    (photos / "classes.txt").write_text("cat\ndog\n<img src=//evil.example/x onerror=alert(1)>\n")
    (photos / names[6]).write_bytes(b"no image")
    _, address = served(run_folder)
    page = Typist(browser, address)
    page.at("pool/0.png")
    assert page.text("#count") == "0 of 10; 0 unsure" and "<img src=//evil" in page.text("#classes")
    said = {}
    for i, key, label in ((0, "1", "cat"), (1, "2", "dog"), (2, "?", "?"), (3, "2", "dog")):
        page.at(f"pool/{i}.png")
        page.press(key)
        page.until("#count", f"{i + 1} of 10")
        said[names[i]] = label
        assert dict(read(photos)) == said  # on disk before the next picture shows
    page.at("pool/4.png")
    assert page.text("#count") == "4 of 10; 1 unsure"
    page.press("9")  # no class has this key
    page.press(Keys.BACKSPACE)
    page.at("pool/3.png")
    assert page.text("button[aria-pressed=true]").split() == ["2", "dog"]
    page.press(Keys.ARROW_LEFT)
    page.at("pool/2.png")
    page.press("1")  # can tell after all
    page.at("pool/4.png")
    said[names[2]] = "cat"
    assert dict(read(photos)) == said and page.text("#count") == "4 of 10; 0 unsure"

    page.press("+")  # a class of a new kind, which needs a yes
    page.press("Sea gull 1?", Keys.ENTER)
    page.until("#question", '"Sea gull 1?"')
    assert len((photos / "classes.txt").read_text().splitlines()) == 3
    page.press(Keys.ENTER)
    page.until("#classes", "Sea gull 1?")
    assert (photos / "classes.txt").read_text().splitlines()[3:] == ["Sea gull 1?"]
    page.press("+", "CAT", Keys.ENTER)
    page.until("#warning", '"cat"')
    page.press(Keys.ESCAPE)
    page.at("pool/4.png")
    page.press("4")
    page.at("pool/5.png")
    said[names[4]] = "Sea gull 1?"

    browser.refresh()
    page.at("pool/5.png")
    assert page.text("#count") == "5 of 10; 0 unsure" and dict(read(photos)) == said
    # Meanwhile another window answers two of them: moving on skips those.
    other = Person(run_folder)
    other.answers(7, "dog")
    other.answers(8, "dog")
    other.answers(5, "dog")  # and the one that is shown here
    page.press("3")
    page.until("#message", "'dog'")
    page.at("pool/5.png")
    assert page.text("button[aria-pressed=true]").split() == ["2", "dog"]
    page.press("3")
    page.at("pool/6.png")
    page.until("#stage", "pool/6.png")
    page.press("1")  # not of what nobody has seen
    page.press("?")
    page.at("pool/9.png")
    said |= {
        names[5]: "<img src=//evil.example/x onerror=alert(1)>",
        names[6]: "?",
        names[7]: "dog",
        names[8]: "dog",
    }
    assert dict(read(photos)) == said and page.text("#count") == "9 of 10; 1 unsure"

    page.press(Keys.BACKSPACE)  # to what was shown before, not to what another window did
    page.at("pool/6.png")
    page.press(Keys.ARROW_RIGHT)
    page.at("pool/9.png")

    (photos / "labels.csv").rename(photos / "kept.csv")  # broken while the page is open
    (photos / "labels.csv").write_text("nothing\n")
    page.press("1")
    page.until("#message", "labels.csv line 1")
    assert page.text("#file") == "pool/9.png" and (photos / "labels.csv").read_text() == "nothing\n"
    page.at("pool/9.png")
    (photos / "kept.csv").rename(photos / "labels.csv")
    page.press("1")
    page.until("#stage", "All 10 images")
    said[names[9]] = "cat"
    assert (
        "main.py" in page.text("#stage")
        and " 1 unsure" in page.text("#stage")
        and page.text("#message") == ""
    )
    assert [name for name, _ in read(photos)] == [names[i] for i in (0, 1, 2, 3, 4, 7, 8, 5, 6, 9)]
    assert dict(read(photos)) == said

    asked = requests_of(browser)
    assert len(asked) > 10 and {url for url in asked if not url.startswith((f"{address}/", "data:"))} == set()
    assert complaints(browser) == []  # no error of a script, nothing that the page's policy kept away
    browser.execute_script("fetch('http://other.example/x').catch(() => {})")  # and that would be seen
    assert "Content Security Policy" in "".join(complaints(browser))


def test_by_mouse_large_and_small(tmp_path: Path, browser: Any, served: Serve):
    names = [f"pool/{i}.png" for i in range(3)]
    run_folder = make_run(tmp_path, names)
    photos = tmp_path / "photos"
    (photos / "labels.csv").write_text("file_name,label\npool/other.png,cat\npool/2.png,dog\n")
    Image.effect_noise((2000, 1000), 50).save(photos / names[1])
    process, address = served(run_folder, "--annotator", "anna")
    page = Typist(browser, address)
    page.at("pool/0.png")
    keys = page.script("['0 1 2 cat', 'cat 1 5 a b', 'A b'].map(x => keysOf(x.split(' ')).join(''))")
    assert keys == ["0123", "125ab", "Ab"]  # a class that is named as a key has that, if it is free
    many = "[...Array(70).keys()].map(i => `class ${i}`)"
    assert page.script(f"keysOf({many}).filter(key => key).length") == 62  # the rest by mouse
    small = "document.querySelector('#stage img')"
    assert (
        page.script(f"{small}.width") >= 400
        and page.script(f"getComputedStyle({small}).imageRendering") == "auto"  # smooth
    )
    page.press(" ")
    assert (
        page.script(f"{small}.width") >= 1000
        and page.script("document.querySelector('#stage').scrollTop") > 0
    )
    page.click("#zoom")
    page.press(" ")  # zooms again: the button that was clicked does not take it
    page.click("#stage img")
    assert page.script("zoomed") is False
    page.click("#classes button", "dog")
    page.at("pool/1.png")
    page.press(" ")  # not for the button that was clicked
    assert page.script("[zoomed, state.answers[1]]") == [True, None]
    page.press(" ")
    held = {"type": "keyDown", "key": "1", "text": "1", "autoRepeat": True}  # a key held down
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", held)
    page.at("pool/1.png")
    assert page.script("state.answers[1]") is None
    assert page.script(f"[{small}.naturalWidth, {small}.naturalHeight]") == [1600, 800]
    fits = "s => { const b = s.getBoundingClientRect(); return b.width <= innerWidth && b.height <= innerHeight }"
    assert page.script(f"({fits})({small})")
    page.click("#back")
    page.at("pool/0.png")
    page.click("#unsure")
    page.at("pool/1.png")
    page.click("#on")
    page.at("pool/2.png")
    page.click("#add")
    page.press("bird")
    page.click("#confirm")
    page.click("#confirm")
    page.until("#classes", "bird")
    assert (photos / "classes.txt").read_text() == "cat\ndog\nbird\n"
    page.click("#classes button", "bird")
    page.at("pool/1.png")
    assert (photos / "labels.csv").read_text() == (
        "file_name,label,annotator\npool/other.png,cat,\npool/2.png,dog,\npool/0.png,?,anna\npool/2.png,bird,anna\n"
    )
    process.kill()  # the program ends while the page is open
    process.wait()
    page.press("1")
    page.until("#message", "does not answer")
    assert page.text("#file") == "pool/1.png" and "pool/1.png" not in (photos / "labels.csv").read_text()
    served(run_folder, "--annotator", "anna", "--port", address.rpartition(":")[2])
    page.press("1")
    page.until("#stage", "All 3 images")
    assert (photos / "labels.csv").read_text().endswith("pool/1.png,cat,anna\n")


def test_one_page_from_the_first_class_to_the_review(tmp_path: Path, browser: Any, served: Serve):
    from selenium.webdriver.common.keys import Keys

    names = [f"pool/{i}.png" for i in range(6)]
    run_folder = make_run(tmp_path, names)
    ask(run_folder, names[:2])
    photos = tmp_path / "photos"
    _, address = served(run_folder)
    page = Typist(browser, address)
    page.at("pool/0.png")
    assert " ".join(page.text("#hint").split()) == "No class yet: press + and name the first one."
    page.press("+", "cat", Keys.ENTER, Keys.ENTER)
    page.until("#classes", "cat")
    assert page.script("document.querySelector('#hint').hidden") is True
    page.press("+", "Cat", Keys.ENTER)
    page.until("#warning", '"cat"')
    page.press(Keys.ENTER)  # which must not add the twin
    assert page.script("adding.open") is False and (photos / "classes.txt").read_text() == "cat\n"
    page.press("+", "dog", Keys.ENTER, Keys.ENTER)
    page.until("#classes", "dog")
    page.press("1")
    page.at("pool/1.png")
    page.press(Keys.F2)
    page.press(Keys.TAB, "lynx", Keys.ENTER)
    page.until("#question", '"cat" to "lynx"')
    page.press(Keys.ENTER)
    page.until("#classes", "lynx")
    page.at("pool/1.png")
    page.press("2")
    page.until("#stage", "waits for the next images")
    assert read(photos) == [["pool/0.png", "lynx"], ["pool/1.png", "dog"]]
    (run_folder / "to_label.csv").unlink()
    ask(run_folder, names[2:3])
    page.at("pool/2.png")  # by itself
    page.press("2")
    page.until("#stage", "All 1 images")
    (run_folder / "to_label.csv").unlink()
    (run_folder / "predictions.csv").write_text("file_name\n")
    page.until("#stage", "The run is finished.")
    assert page.script("document.querySelector('#keep').hidden") is True

    (run_folder / "review.csv").write_text(
        "file_name,label,predicted,probability\npool/0.png,lynx,dog,0.004\npool/2.png,dog,lynx,0.2\n"
    )
    _, address = served(run_folder, "--review")
    page = Typist(browser, address)
    page.at("pool/0.png")
    assert page.text("#doubt") == 'labeled "lynx", predicted "dog" (probability of "lynx": under 1 %)'
    assert page.text("button.predicted").split() == ["2", "dog"]
    page.press(Keys.ENTER)  # keep
    page.at("pool/2.png")
    page.press("1")
    page.until("#stage", "All 2 doubtful labels are reviewed.")
    assert read(photos) == [["pool/0.png", "lynx"], ["pool/1.png", "dog"], ["pool/2.png", "lynx"]]
    assert complaints(browser) == []


def read(photos: Path) -> list[list[str]]:
    """The rows of labels.csv."""
    with (photos / "labels.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]
