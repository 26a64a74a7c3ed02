"""Labels come in from other tools and go out as class folders, and nothing else changes."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from label_studio_exports import CLASSES, FILES, MEANT, STORED
from PIL import Image
from shell import ROOT, Started, load_program, one_error, rows, run, says, user_error

from config import CIFAR10
from loader import load_images
from pt4al.base.console import Stopped, UserError, fail
from pt4al.data.ids import by_path
from pt4al.person.agreement import read_answers

POOL = ["one.png", "two.png", "001.png", "a/dup.png", "b/dup.png", "a_dup.png", "a/b/c/deep.png",
        "Ferien/ä & ö.png", "z/b/c/deep.png"]  # fmt: skip


def draw(path: Path, seed: int, **options: object) -> None:
    """An image of 8x8 pixels that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(seed))
    Image.fromarray(values.to(torch.uint8).numpy()).save(path, **options)


def make_photos(folder: Path, names: list[str] = POOL) -> Path:
    for i, name in enumerate(names):
        draw(folder / "pool" / name, i)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def convert(folder: Path, action: str, *arguments: object, status: int = 0) -> str:
    """Run the program in a folder whose PHOTOS is `photos`; what it prints."""
    words = [action, *map(str, arguments), "--data-dir", "photos"]
    done = run(folder, "utils/convert_labels.py", *words, status=status)
    return done.stderr if status else done.stdout


def program() -> ModuleType:
    """The program as a module, not started."""
    return load_program("convert_labels")


def labels(photos: Path) -> dict[str, str]:
    """What labels.csv says, by path below the pool."""
    files = sorted(x.relative_to(photos).as_posix() for x in (photos / "pool").rglob("*.*"))
    positions = {by_path(file): i for i, file in enumerate(files)}
    said = read_answers([photos / "labels.csv"], positions, ()).labels
    return {files[i].removeprefix("pool/"): label for i, label in said.items()}


def said(photos: Path) -> list[tuple[str, ...]]:
    return sorted(tuple(row.values()) for row in rows(photos / "labels.csv"))


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder but for locks."""
    return {
        str(x.relative_to(folder)): os.readlink(x) if x.is_symlink() else x.read_bytes()
        for x in folder.rglob("*")
        if (x.is_symlink() or x.is_file()) and x.name != ".labels.lock"
    }


def imported(told: str) -> list[int]:
    """Of labels, in the last line: new, the same, replaced, left out."""
    name, _, counts = told.splitlines()[-1].partition(": ")
    assert name == "photos/labels.csv"
    return [int(number) for number in re.findall(r"\d+", counts)]


def exported(told: str) -> list[int]:
    """Of images, in the last line: to train, to test; classes; left out: without label, unsure, disputed."""
    name, _, counts = told.splitlines()[-1].partition(": ")
    assert name == "out"
    return [int(number) for number in re.findall(r"\d+", counts)]


# --- import: Label Studio


@pytest.mark.parametrize("kind", ["choices", "textarea"])
@pytest.mark.parametrize("form", [".json", "_min.json", ".csv", ".tsv"])
def test_every_export_of_label_studio_says_the_same(tmp_path: Path, kind: str, form: str):
    photos = tmp_path / "photos"
    for i, file in enumerate(FILES):
        (photos / file).parent.mkdir(parents=True, exist_ok=True)
        (photos / file).write_bytes(bytes([i]))
    (photos / "classes.txt").write_text("\n".join(CLASSES))
    told = convert(tmp_path, "import", STORED / f"{kind}{form}")
    assert labels(photos) == {file.removeprefix("pool/"): label for file, label in MEANT.items()}
    # Label Studio drops skipped tasks from all but JSON; there one more says nothing.
    skipped = 2 if form == ".json" else 1
    assert imported(told) == [14, 0, 0, skipped]
    assert any(line.startswith(f"{skipped} ") for line in told.splitlines())
    assert ": 5 NA, 4 001" in told or ": 4 001, 4 NA" in told
    who = "7" if kind == "choices" else "7@example.org"
    assert ("pool/d,e.png", "cat, tabby", who) in said(photos) and len(said(photos)) == 14
    assert imported(convert(tmp_path, "import", STORED / f"{kind}.csv"))[:2] == [0, 14]


def task(image: str, *annotations: dict, **data: object) -> dict:
    return {"id": 5, "data": {"image": image, **data}, "annotations": list(annotations)}


def choice(*names: str, question: str = "choice", who: object = 1, **more: object) -> dict:
    value = {"value": {"choices": list(names)}, "type": "choices", "to_name": "image"}
    return {"completed_by": who, "result": [{**value, "from_name": question}], **more}


def test_a_project_that_is_not_of_ours_is_read(photos: Path, tmp_path: Path):
    """The question has another name, and images are where a server keeps them."""
    tasks = [
        task("/data/upload/3/0ab1c2d3-one.png", choice("cat")),
        task("/data/local-files/?d=some/where/pool/a/dup.png", choice("dog", who={"id": 4, "email": ""})),
        task("s3://bucket/two.png", choice("cat", who=None)),
        task("https://host/x/Ferien/%C3%A4%20%26%20%C3%B6.png?key=1", choice("cat", who={"email": "me@x"})),
        task("b/dup.png", choice("dog", was_cancelled=True), {"result": [], "completed_by": 1}),
        {"id": 9, "data": {"photo": "001.png", "text": "x"}, "predictions": [choice("dog")], "annotations": []},
        {"id": 9, "data": {"photo": "a_dup.png"}, "completions": [choice("dog"), choice("cat", skipped=True)]},
    ]  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(tasks))
    told = convert(tmp_path, "import", "x.json")
    assert said(photos) == [
        ("pool/Ferien/ä & ö.png", "cat", "me@x"),
        ("pool/a/dup.png", "dog", "4"),
        ("pool/a_dup.png", "dog", "1"),
        ("pool/one.png", "cat", "1"),
        ("pool/two.png", "cat", ""),
    ]
    assert imported(told) == [5, 0, 0, 4]


def test_one_of_several_questions_is_chosen(photos: Path, tmp_path: Path):
    both = choice("cat", question="animal")
    both["result"] += choice("sharp", question="quality")["result"]
    (tmp_path / "x.json").write_text(json.dumps(task("one.png", both)))
    error = convert(tmp_path, "import", "x.json", status=2)
    one_error(error, "convert_labels.py", "x.json", "animal, quality", "--label-column")
    convert(tmp_path, "import", "x.json", "--label-column", "quality")
    assert labels(photos) == {"one.png": "sharp"}


def test_answers_to_two_questions_are_not_mixed(photos: Path, tmp_path: Path):
    """Nor where each picture has an answer to one of them only."""
    comment = {"from_name": "comment", "type": "textarea", "value": {"text": ["blurred"]}}
    (tmp_path / "x.json").write_text(
        json.dumps([task("one.png", choice("dog")), task("two.png", {"result": [comment]})])
    )
    error = convert(tmp_path, "import", "x.json", status=2)
    one_error(error, "convert_labels.py", "x.json", "choice, comment", "--label-column")
    error = convert(tmp_path, "import", "x.json", "--label-column", "choise", status=2)
    one_error(error, "convert_labels.py", "x.json", "choise", "choice, comment")


@pytest.mark.parametrize(
    "table",
    [
        "file_name,label\none.png,\n20a30b01-one.png,dog",
        "file_name,label\n20230101-one.png,dog",  # a camera's name, not Label Studio's
        "file_name,label\none.png,\ndog_one.png,dog",
        "file_name,label\ntrain/one.png,\ntest/one.png,dog",
        "image,label\n/data/upload/1/aaaaaaaa-one.png,dog\n/data/upload/2/bbbbbbbb-one.png,dog",
        "file_name,label\naaaaaaaa-one.png,\nbbbbbbbb-one.png,dog",
    ],
)
def test_a_name_that_others_may_have_had_names_nothing(photos: Path, tmp_path: Path, table: str):
    """Whether those have a label or not."""
    (tmp_path / "x.csv").write_text(f"{table}\ntwo.png,cat\n")
    convert(tmp_path, "import", "x.csv")
    assert labels(photos) == {"two.png": "cat"}


def test_a_folder_of_the_pool_may_be_called_pool_and_a_name_look_like_an_ending(tmp_path: Path):
    photos = make_photos(tmp_path / "photos", ["1.png", "hotel/pool/1.png", "leaf.png", "leaf.rgb.png"])
    (tmp_path / "x.csv").write_text("file_name,label\nhotel/pool/1.png,swim\nleaf.rgb,colors\n")
    convert(tmp_path, "import", "x.csv")
    assert labels(photos) == {"hotel/pool/1.png": "swim", "leaf.rgb.png": "colors"}


@pytest.mark.parametrize(
    ("table", "label"),
    [
        ("id,path,label\n1,a/1.png,cat\n1,b/1.png,dog\n2,a/2.png,cow\n", ["cat", "dog", "cow"]),
        ("id,Bild,label\n1,leaf.png,cat\n3,weg.png,dog\n", None),
    ],
)
def test_a_number_is_no_path(tmp_path: Path, table: str, label: list[str] | None):
    names = ["a/1.png", "b/1.png", "a/2.png", "3.png", "leaf.png"]
    photos = make_photos(tmp_path / "photos", names)
    (tmp_path / "x.csv").write_text(table)
    told = convert(tmp_path, "import", "x.csv", status=0 if label else 2)
    if label:
        assert labels(photos) == dict(zip(names, label, strict=False))
    else:
        one_error(told, "convert_labels.py", "id", "bild", "--image-column")


def answers(question: str, kind: str, value: object) -> dict:
    """An answer of another kind than choices."""
    result = {"value": {kind: value}, "type": kind, "to_name": "image", "from_name": question}
    return {"completed_by": 1, "result": [result]}


def test_answers_that_are_not_read_are_named(photos: Path, tmp_path: Path):
    both = choice("cat")
    both["result"] += answers("stars", "rating", 4)["result"]
    made = [
        task("one.png", both), task("two.png", answers("x", "taxonomy", [["animal", "cat"]])), task("001.png"),
        task("a_dup.png", {**answers("x", "taxonomy", [["animal"]]), "was_cancelled": True}),
    ]  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(made))
    unread, empty, *_, last = convert(tmp_path, "import", "x.json").splitlines()
    says(unread, "2 ", "rating, taxonomy")
    assert empty.startswith("2 ") and imported(last) == [1, 0, 0, 3]
    assert labels(photos) == {"one.png": "cat"}
    unread, *_ = convert(tmp_path, "import", "x.json", "--label-column", "x").splitlines()
    says(unread, "1 ", "taxonomy")
    for name, made in (
        (
            "x.json",
            json.dumps([{"image": "one.png", "label": [{"taxonomy": [["animal", "cat"]]}]}]),
        ),  # JSON_MIN
        ("x.csv", 'image,label\none.png,"[{""rating"": 4}]"\n'),
    ):
        (tmp_path / name).write_text(made)
        says(
            convert(tmp_path, "import", name, status=2),
            name,
            "rating" if "csv" in name else "taxonomy",
            "not read",
        )


HASHES = ("0b1c2d3e4f5061728394a5b6c7d8e9f0", "ffffffffffffffffffffffffffffffff")


def test_images_are_found_by_the_names_that_other_tools_gave_them(photos: Path, tmp_path: Path):
    """Pictures that these have compressed anew, so that their content tells nothing."""
    for i, name in enumerate((
        *(f"train/cat/one_png.rf.{x}.jpg" for x in HASHES),  # Roboflow, with an augmentation
        f"valid/dog/a_dup_PNG.rf.{HASHES[0]}.jpg",
        "train/dog/dog_two.png", "train/no_label/001.png",  # CVAT, in its form ImageNet
        "train/cat/0ab1c2d3-ä & ö.png",  # Label Studio
    )):  # fmt: skip
        draw(tmp_path / "x" / name, 100 + i)
    assert imported(convert(tmp_path, "import", "x")) == [4, 0, 0, 1]
    found = {"one.png": "cat", "a_dup.png": "dog", "two.png": "dog", "Ferien/ä & ö.png": "cat"}
    assert labels(photos) == found
    (photos / "labels.csv").unlink()
    (tmp_path / "x.csv").write_text(
        f"nr,filename,class\n1,one_png.rf.{HASHES[0]}.jpg,cat\n2,a_dup_png.rf.{HASHES[0]}.jpg,dog\n"
        "3,0ab1c2d3-two.png,dog\n4,1ab1c2d3-001.png,cat\n5,2ab1c2d3-001.png,cat\n"
    )
    told = convert(tmp_path, "import", "x.csv", "--label-column", "class")
    assert imported(told) == [3, 0, 0, 2]  # two pictures were called 001.png
    assert labels(photos) == {"one.png": "cat", "a_dup.png": "dog", "two.png": "dog"}


# --- import: class folders


def put(photos: Path, name: str, target: Path, how: str) -> None:
    source = photos / "pool" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "copy":
        shutil.copyfile(source, target)
    elif how == "hard link":
        os.link(source, target)
    else:
        target.symlink_to(os.path.relpath(source, target.parent))


@pytest.mark.parametrize("how", ["copy", "hard link", "link"])
@pytest.mark.parametrize("layout", ["", "train/", "test/", "seg_train/seg_train/"])
def test_class_folders_of_copies_and_links(photos: Path, tmp_path: Path, how: str, layout: str):
    """By path, by name, and by content under another name: also where that is the name of another."""
    put(photos, "one.png", tmp_path / f"sorted/{layout}001/one.png", how)
    put(photos, "a/dup.png", tmp_path / f"sorted/{layout}NA/a/dup.png", how)
    put(photos, "Ferien/ä & ö.png", tmp_path / f"sorted/{layout}NA/ä & ö.png", how)
    put(photos, "b/dup.png", tmp_path / f"sorted/{layout}grün, hell/two.png", how)
    other = {"test/": "train/", "seg_train/seg_train/": "seg_test/seg_test/"}.get(layout, layout)
    put(photos, "001.png", tmp_path / f"sorted/{other}NA/new name.png", how)
    (tmp_path / f"sorted/{layout}NA/.hidden.png").write_text("")
    (tmp_path / f"sorted/{layout}NA/notes.txt").write_text("")
    for thumbnails in (tmp_path / f"sorted/{layout}NA/@eaDir/one.png", tmp_path / f"sorted/{layout}@eaDir"):
        put(photos, "one.png", thumbnails / "SYNOPHOTO_THUMB_M.png", how)
    told = convert(tmp_path, "import", "sorted")
    assert "sorted: 2 images in @eaDir, 1 .txt files, 1 hidden files are left out\n" in told
    assert labels(photos) == {
        "one.png": "001", "a/dup.png": "NA", "Ferien/ä & ö.png": "NA", "b/dup.png": "grün, hell", "001.png": "NA",
    }  # fmt: skip
    assert imported(told) == [5, 0, 0, 0] and ("seg_test, seg_train" in told) == ("seg" in layout)


def test_folders_in_the_pool_itself_are_classes_when_they_are_named(photos: Path, tmp_path: Path):
    """What was moved into class folders there is still in the pool."""
    put(photos, "one.png", photos / "pool/z/x.png", "copy")  # else it is b/c/ that may be the class
    convert(tmp_path, "import", "photos/pool")
    assert labels(photos) == {
        "a/dup.png": "a", "b/dup.png": "b", "a/b/c/deep.png": "a", "Ferien/ä & ö.png": "Ferien", "z/b/c/deep.png": "z",
        "z/x.png": "z",
    }  # fmt: skip


def test_a_class_may_be_called_train(photos: Path, tmp_path: Path):
    put(photos, "one.png", tmp_path / "x/train/one.png", "copy")
    put(photos, "two.png", tmp_path / "x/bus/two.png", "copy")
    convert(tmp_path, "import", "x")
    assert labels(photos) == {"one.png": "train", "two.png": "bus"}


def test_an_image_that_was_compressed_anew_is_known_by_its_name(photos: Path, tmp_path: Path):
    draw(tmp_path / "x/cat/one.jpg", 99, quality=50)
    convert(tmp_path, "import", "x")
    assert labels(photos) == {"one.png": "cat"}


def test_two_strangers_of_one_name_are_not_taken_for_the_image_of_that_name(photos: Path, tmp_path: Path):
    """IMG_1 of one camera is not IMG_1 of another."""
    put(photos, "one.png", tmp_path / "x/cat/one.png", "copy")
    draw(tmp_path / "x/dog/one.png", 99)
    told = convert(tmp_path, "import", "x")
    assert labels(photos) == {"one.png": "cat"}
    says(told, "1 image", "photos/pool", "one.png (x/dog/one.png)")
    (tmp_path / "x.csv").write_text("id,label\n1/two,cat\n2/two,cat\none,cat\n")
    says(convert(tmp_path, "import", "x.csv"), "2 images", "photos/pool", "1/two (x.csv line 2)")
    assert labels(photos) == {"one.png": "cat"}


def test_copies_in_the_pool_get_the_label_of_their_content(photos: Path, tmp_path: Path):
    shutil.copyfile(photos / "pool/one.png", photos / "pool/again.png")
    put(photos, "one.png", tmp_path / "x/cat/renamed.png", "copy")
    convert(tmp_path, "import", "x")
    assert labels(photos) == {"one.png": "cat", "again.png": "cat"}


def test_a_name_spelled_in_the_other_unicode_form_is_found(photos: Path, tmp_path: Path):
    (tmp_path / "x.csv").write_text("file_name,label\nFerien/a\u0308 & o\u0308.png,Ka\u0308fer\n")
    convert(tmp_path, "import", "x.csv")
    assert labels(photos) == {"Ferien/ä & ö.png": "Käfer"}


# --- import: tables

TABLES: list[tuple[str, str, list[str]]] = [
    ("train.csv", "image_id,label\none.png,001\ndup2,NA\na/dup,NA\n", []),
    ("labels.csv", "id,breed\none,001\na/dup.png,NA\n", ["--label-column", "breed"]),
    ("train.csv", "Image;Id\none.png;001\npool/a/dup.png;NA\n", ["--label-column", "Id"]),
    ("x.tsv", "path\tlabel\n/data/pool/one.png\t001\nC:\\x\\pool\\a\\dup.png\tNA\n", []),
    ("metadata.csv", "file_name,label,text\none.png,001,\na/dup.png,NA,none\nb/dup.png,,x\n", []),
    ("metadata.jsonl", '{"file_name": "one.png", "label": "001"}\n\n{"file_name": "a/dup.png", "label": "NA"}\n'
     '{"file_name": "b/dup.png", "label": null}\n', []),
    ("m.jsonl", '{"file_name": "one.png", "y": "001"}\r\n{"file_name": "a/dup", "y": "NA"}', ["--label-column", "y"]),
    ("min.json", '[{"image": "one.png", "label": "001"}, {"image": "/data/local-files/?d=a%2Fdup.png", "label": "NA"}]',
     []),
]  # fmt: skip


@pytest.mark.parametrize("name, text, flags", TABLES, ids=range(len(TABLES)))
def test_tables_of_other_tools(photos: Path, tmp_path: Path, name: str, text: str, flags: list[str]):
    (tmp_path / name).write_text(text)
    told = convert(tmp_path, "import", name, *flags)
    assert labels(photos) == {"one.png": "001", "a/dup.png": "NA"}
    assert imported(told)[:3] == [2, 0, 0]


# Images are called 1.png to 6.png, and rows come in another order.
ORDER = [3, 1, 2, 6, 4, 5]
NUMBERED = {f"{i}.png": "ab"[i % 2] for i in ORDER}


def table(form: str, **columns: list) -> str:
    """A table in one of the forms that are read; `label` is by `ORDER`."""
    columns |= {"label": [NUMBERED[f"{i}.png"] for i in ORDER]}
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if form in ("csv", "tsv"):
        delimiter = "," if form == "csv" else "\t"
        return "".join(delimiter.join(map(str, x)) + "\n" for x in [columns, *(x.values() for x in records)])
    if form == "jsonl":
        return "".join(json.dumps(record) + "\n" for record in records)
    if form == "json":
        return json.dumps(records)
    return json.dumps([
        {"id": i, "data": record, "annotations": [choice(record.pop("label"))]}
        for i, record in enumerate(records, 1)
    ])  # fmt: skip


PATHS = [f"pool/{i}.png" for i in ORDER]
ROW_NUMBERS = list(range(1, 7))


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "jsonl", "tasks"])
def test_the_column_that_names_images_is_found_by_its_values(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch, refuse: Callable[..., None]
):
    photos = make_photos(tmp_path / "photos", list(NUMBERED))
    name = f"x.{form.replace('tasks', 'json')}"

    def brings(*flags: str, **columns: list) -> None:
        (tmp_path / name).write_text(table(form, **columns))
        (photos / "labels.csv").unlink(missing_ok=True)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["x", "import", name, *flags, "--data-dir", "photos"])
        program().main()
        assert labels(photos) == NUMBERED
        (photos / "labels.csv").unlink()

    brings(nr=ROW_NUMBERS, bild=PATHS)  # of any name
    brings(id=[100 * i for i in ROW_NUMBERS], path=[f"/data/upload/3/0ab1c2d3-{i}.png" for i in ORDER])
    brings(id=ROW_NUMBERS, file_name=PATHS, path=PATHS)  # file_name says so
    brings(annotation_id=ROW_NUMBERS, id=ROW_NUMBERS, photo=PATHS)  # tasks of Label Studio
    brings(image_id=ORDER, width=[1] * 6, path=[f"else/x{i}.png" for i in ORDER])
    brings("--image-column", "path", id=ROW_NUMBERS, path=PATHS)
    for other in ("id", "picture"):
        numbers = ROW_NUMBERS if other == "id" else [f"{i}.png" for i in ROW_NUMBERS]
        (tmp_path / name).write_text(table(form, **{other: numbers, "path": PATHS}))
        refuse(
            tmp_path,
            f"import {name}",
            name,
            f"{numbers[0]}' ({other})",
            "'pool/3.png' (path)",
            "--image-column",
        )
    if form != "tasks":
        (tmp_path / name).write_text(table(form, file_name=[f"{i}.png" for i in ROW_NUMBERS], path=PATHS))
        refuse(tmp_path, f"import {name}", "'1.png' (file_name)", "'pool/3.png' (path)")
    refuse(tmp_path, f"import {name} --image-column y", name, " y")


def test_classes_that_may_be_one_are_noted(photos: Path, tmp_path: Path):
    """As pandas writes numbers where a cell is empty."""
    label(photos, {"one.png": "1"})
    (tmp_path / "x.csv").write_text("image,label\ntwo,1.0\n001,\na/dup,2.0\n")
    told = convert(tmp_path, "import", "x.csv")
    says(told, "note: ", "'1'", "'1.0'", "dtype=str")
    assert labels(photos) == {"one.png": "1", "two.png": "1.0", "a/dup.png": "2.0"}


def test_a_class_by_number_is_text(photos: Path, tmp_path: Path):
    (tmp_path / "m.jsonl").write_text('{"file_name": "one.png", "label": 7}')
    convert(tmp_path, "import", "m.jsonl")
    assert labels(photos) == {"one.png": "7"}


def test_images_beside_metadata_are_known_by_content(photos: Path, tmp_path: Path):
    put(photos, "one.png", tmp_path / "hf/train/0001.png", "copy")
    put(photos, "two.png", tmp_path / "hf/train/one.png", "copy")
    (tmp_path / "hf/train/metadata.csv").write_text("file_name,label\n0001.png,cat\none.png,dog\n")
    convert(tmp_path, "import", "hf/train/metadata.csv")
    assert labels(photos) == {"one.png": "cat", "two.png": "dog"}


def test_many_labels_take_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    n = 10_000
    (tmp_path / "photos/pool").mkdir(parents=True)
    for i in range(n):
        (tmp_path / f"photos/pool/{i}.png").touch()
    lines = [f"{i},{i % 100:03}\n" for i in range(n)]
    (tmp_path / "x.csv").write_text("id,label\n" + "".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["x", "import", "x.csv", "--data-dir", "photos"])
    began = time.process_time()
    program().main()
    assert time.process_time() - began < 20  # of this process; quadratic: many minutes
    assert len(rows(tmp_path / "photos/labels.csv")) == n


# --- import: what stands in labels.csv


def test_labels_are_added_and_everything_else_stays(photos: Path, tmp_path: Path):
    before = "\ufefffile_name;note;label\r\npool/one.png;mine, 1;cat\r\npool/two.png;;\r\n/else/pool/x.png;;dog\r\n"
    (photos / "labels.csv").write_bytes(before.encode())
    (tmp_path / "x.csv").write_text("id,label\none,cat\ntwo,dog\na/dup,dog\nnowhere,cat\n001,\n")
    told = convert(tmp_path, "import", "x.csv")
    after = before.replace("two.png;;", "two.png;;dog") + "pool/a/dup.png;;dog\r\n"
    assert (photos / "labels.csv").read_bytes() == after.encode()
    strange, empty, classes, _ = told.splitlines()
    says(strange, "1 image", "photos/pool", "nowhere (x.csv line 5)")
    assert empty.startswith("1 ") and classes.endswith(": 2 dog, 1 cat") and imported(told) == [2, 1, 0, 2]
    times = (photos / "labels.csv").stat().st_mtime_ns
    assert imported(convert(tmp_path, "import", "x.csv"))[:2] == [0, 3]
    assert (photos / "labels.csv").stat().st_mtime_ns == times


def test_a_label_that_stands_is_replaced_on_demand_alone(photos: Path, tmp_path: Path):
    (photos / "labels.csv").write_text("file_name,label\none.png,cat\ntwo.png,cat\n001.png,?\n")
    (tmp_path / "x.csv").write_text("id,label\none,dog\ntwo,cat\n001,dog\na/dup,dog\n")
    before = tree(tmp_path)
    told = convert(tmp_path, "import", "x.csv", status=2)
    one_error(
        told, "convert_labels.py", "2 labels", "labels.csv", "pool/one.png", "'cat'", "'dog'", "x.csv line 2"
    )
    says(told, "--replace")
    assert tree(tmp_path) == before
    told = convert(tmp_path, "import", "x.csv", "--replace")
    assert imported(told) == [1, 1, 2, 0]
    assert (photos / "labels.csv").read_text() == (
        "file_name,label\none.png,dog\ntwo.png,cat\n001.png,dog\npool/a/dup.png,dog\n"
    )


def test_annotators_may_differ_with_each_other_but_not_with_who_decides(photos: Path, tmp_path: Path):
    (photos / "labels.csv").write_text("file_name,label,annotator\none,cat,anne\ntwo,cat,\n001,cat,anne\n")
    (tmp_path / "x.csv").write_text("id,label\none,dog\n")
    told = convert(tmp_path, "import", "x.csv", "--annotator", "ben")
    assert imported(told)[0] == 1
    assert labels(photos) == {"two.png": "cat", "001.png": "cat"}  # on `one` they disagree
    told = convert(tmp_path, "import", "x.csv", "--annotator", "anne", status=2)
    one_error(told, "convert_labels.py", "1 label", "photos/labels.csv", "--replace")
    convert(tmp_path, "import", "x.csv")  # names nobody: decides
    assert labels(photos)["one.png"] == "dog"
    (tmp_path / "x.csv").write_text("id,label\ntwo,dog\n001,cat\n")
    for flags in (["--annotator", "ben"], []):
        told = convert(tmp_path, "import", "x.csv", *flags, status=2)
        one_error(told, "convert_labels.py", "1 label", "photos/labels.csv", "pool/two.png", "'cat'")
    told = convert(tmp_path, "import", "x.csv", "--annotator", "ben", "--replace")
    assert imported(told)[:3] == [1, 0, 1]
    assert labels(photos) == {"one.png": "dog", "two.png": "dog", "001.png": "cat"}
    (tmp_path / "x.csv").write_text("id,label\n001,cat\n")
    assert imported(convert(tmp_path, "import", "x.csv"))[:2] == [0, 1]


# --- import: what is refused

Make = Callable[[Path], object]


def text(name: str, content: str | bytes) -> Make:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def tasks(*items: object) -> Make:
    return text("x.json", json.dumps(list(items)))


def overview(folder: Path) -> None:
    for name in ("overview.png", "cat/a.png", "dog/b.png"):
        draw(folder / "x/Images" / name, 7)


BAD_IMPORTS: list[tuple[Make, str, tuple[str, ...]]] = [
    (overview, "x", ("x/Images", "which are classes")),
    (text("y", ""), "x.csv", ("x.csv",)),
    (text("x.xml", "<a/>"), "x.xml", ("x.xml", ".json", ".jsonl", ".csv", ".tsv")),
    (text("x.zip", "PK"), "x.zip", ("x.zip", "unpack")),
    (text("x.json", "{"), "x.json", ("x.json", "JSON")),
    (text("x.json", "[" * 100_000), "x.json", ("x.json", "JSON")),
    (text("x.json", ""), "x.json", ("x.json", "JSON")),
    (text("x.json", '[{"label": "a"}]'.encode("utf-16")), "x.json", ("x.json line 1", "UTF-8")),
    (text("x.json", "7"), "x.json", ("x.json record 1", "object")),
    (text("x.json", "[]"), "x.json", ("x.json", "field label", "nothing", "--label-column")),
    (tasks({"image": "one.png", "choice": "a"}), "x.json", ("x.json", "field label", "image, choice")),
    (tasks({"label": "a"}), "x.json", ("x.json record 1", "image", "label")),
    (tasks({"image": "one.png", "label": ["a", "b"]}), "x.json", ("x.json record 1", '["a", "b"]')),
    (tasks({"image": "one.png", "label": {"choices": ["a", "b"]}}), "x.json", ("x.json record 1", '["a", "b"]')),
    (tasks({"image": "one.png", "label": True}), "x.json", ("x.json record 1", "true")),
    (tasks({"image": "one.png", "label": 0.5}), "x.json", ("x.json record 1", "0.5")),
    (tasks({"images": [], "annotations": [], "categories": []}), "x.json", ("x.json", "Label Studio")),
    (tasks(task("one.png", choice("a")), 7), "x.json", ("x.json task 2", "data", "annotations")),
    (tasks(task("one.png", choice("a", "b"))), "x.json", ("x.json task 5", '["a", "b"]')),
    (tasks(task("one.png", {"result": "a"})), "x.json", ("x.json task 5", "result")),
    (tasks({"data": {"text": "a"}, "annotations": []}), "x.json", ("x.json task 1", "image", "text")),
    (tasks({"data": {}, "annotations": [7]}), "x.json", ("x.json task 1", "data", "annotations")),
    (tasks(task("one.png", choice("a"), choice("b"))), "x.json", ("pool/one.png", "'b'", "'a'", "x.json task 5")),
    (tasks(task("one.png", choice("a\nb"))), "x.json", ("x.json task 5", "'a\\nb'", "class")),
    (tasks(task("one.png", choice("gr\udcfcn"))), "x.json", ("x.json task 5", "class")),
    (text("x.jsonl", '{"file_name": "one.png", "label": "a"}\n{"file'), "x.jsonl", ("x.jsonl line 2", "JSON")),
    (text("x.jsonl", "\n"), "x.jsonl", ("x.jsonl", "field label", "nothing")),
    (text("x.csv", "image,kind\none,a\n"), "x.csv", ("x.csv line 1", "column label", "image, kind")),
    (text("x.csv", "image,kind\none,a\n"), "x.csv --label-column breed", ("x.csv", "column breed", "image, kind")),
    (text("x.csv", "one.png,a\n"), "x.csv", ("x.csv", "column file_name", "one.png, a")),
    (text("x.csv", 'image,label\none.png,"{""choices"":[""a"", ""b""]}"\n'), "x.csv",
     ("x.csv line 2", '{"choices":["a", "b"]}')),
    (text("x.csv", "image,label\none,a\npool/one.png,b\n"), "x.csv",
     ("x.csv line 3", "pool/one.png", "'b'", "'a'", "x.csv line 2")),
    (text("x.csv", "image,label\nnowhere,a\n\x1b[2Jx,a\n"), "x.csv", (" 2 images", "photos/pool", "nowhere")),
    (text("x.csv", "image,label\none,a\n"), "x.csv --annotator a\tb", ("annotator", "'a\\tb'")),
    (text("x.csv", "image,label\none,a\n"), "x.csv --annotator", ("--annotator",)),
    (text("x.csv", "image,label\none,a\n"), "x.csv y.csv", ("y.csv",)),
    (lambda folder: (folder / "x").mkdir(), "x", ("x/CLASS/*",)),
    (lambda folder: draw(folder / "x/one.png", 0), "x", ("x/CLASS/*",)),
    (lambda folder: draw(folder / "x/train/one.png", 0), "x --label-column y", ("x ", "folder", "columns")),
    (lambda folder: draw(folder / "x/train/one.png", 0), "x --image-column y", ("x ", "folder", "columns")),
    (lambda folder: (draw(folder / "x/train/one.png", 0), draw(folder / "x/val/two.png", 1)), "x", ("x/CLASS/*",)),
    (lambda folder: (draw(folder / "x/seg_pred/seg_pred/one.png", 0), draw(folder / "x/seg_train/sea/1.png", 0),
                     draw(folder / "x/seg_train/more/ice/1.png", 0)), "x",
     ("x/seg_pred/seg_pred", "x/seg_train/more/ice", "depth")),
]  # fmt: skip


@pytest.mark.parametrize("make, words, parts", BAD_IMPORTS, ids=range(len(BAD_IMPORTS)))
def test_a_bad_import_is_one_line_and_changes_nothing(
    photos: Path, tmp_path: Path, make: Make, words: str, parts: tuple[str, ...], refuse: Callable[..., None]
):
    make(tmp_path)
    refuse(tmp_path, f"import {words}", *parts)


@pytest.fixture
def refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path, str, tuple[str, ...]], None]:
    """Run the program in this process; it must refuse, and leave every file as it is."""

    def run_here(folder: Path, words: str, *parts: str) -> None:
        before = tree(folder)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["convert_labels.py", *words.split(" "), "--data-dir", "photos"])
        with pytest.raises((UserError, OSError)) as error:
            program().main()
        fail(str(error.value))
        one_error(capsys.readouterr().err, "convert_labels.py", *parts)
        assert tree(folder) == before

    return run_here


STANDING: list[tuple[str, str, tuple[str, ...]]] = [
    ("labels.csv", "file_name,label\none,a\none,b\n", ("labels.csv line 3", "one ", "'a'", "'b'")),
    ("labels.csv", "file_name;label\none;a;b\n", ("labels.csv line 2", " 3 fields")),
    ("classes.txt", "cats\ndogs\n", ("x.csv line 2", "'cat'", "classes.txt", "'cats'?")),
    ("classes.txt", "cat\n", ("classes.txt", " 1 classes")),
    ("pool/one.jpg", "", ("pool/one.jpg", "pool/one.png")),
]


@pytest.mark.parametrize("name, content, parts", STANDING, ids=range(len(STANDING)))
def test_what_is_wrong_in_the_folder_of_photographs_is_said(
    photos: Path, tmp_path: Path, name: str, content: str, parts: tuple[str, ...]
):
    (photos / name).write_text(content)
    (tmp_path / "x.csv").write_text("id,label\none,cat\n")
    before = tree(tmp_path)
    one_error(convert(tmp_path, "import", "x.csv", status=2), "convert_labels.py", *parts)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("action", ["import", "export"])
def test_there_must_be_a_pool(tmp_path: Path, action: str, refuse: Callable[..., None]):
    (tmp_path / "photos").mkdir()
    refuse(tmp_path, f"{action} x.csv", "photos/pool", "--data-dir")
    (tmp_path / "photos/pool").mkdir()
    refuse(tmp_path, f"{action} x.csv", "photos/pool", "image")


def test_the_command_line_must_be_whole(tmp_path: Path):
    for words, part in (([], "{import,export}"), (["import", "x"], "--data-dir"), (["mix", "x"], "'mix'")):
        done = run(tmp_path, "utils/convert_labels.py", *words, status=2)
        one_error(done.stderr, "convert_labels.py", part)


# --- export

GIVEN = {"one.png": "001", "two.png": "NA", "a/dup.png": "001", "b/dup.png": "NA", "a_dup.png": "001",
         "a/b/c/deep.png": "grün, hell", "Ferien/ä & ö.png": "grün, hell"}  # fmt: skip


def label(photos: Path, given: dict[str, str]) -> None:
    with (photos / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "label"], *given.items()])


def test_an_export_is_a_data_set_of_this_project(photos: Path, tmp_path: Path):
    """By a run's own test images; one picture is unsure, one has no label."""
    label(photos, {**GIVEN, "001.png": "?"})
    (tmp_path / "run/labeled").mkdir(parents=True)
    (tmp_path / "run/labeled/test.txt").write_text("pool/a/dup.png\npool/b/dup.png\npool/a/b/c/deep.png\n")
    told = convert(tmp_path, "export", "out", "--run", "run")
    assert exported(told) == [4, 3, 3, 1, 1, 0] and told.count("\n") == 1
    placed = {
        "train/001/one.png": "one.png", "train/NA/two.png": "two.png", "train/001/a_dup.png": "a_dup.png",
        "train/grün, hell/ä & ö.png": "Ferien/ä & ö.png", "test/001/a_dup-2.png": "a/dup.png",
        "test/NA/b_dup.png": "b/dup.png", "test/grün, hell/a_b_c_deep.png": "a/b/c/deep.png",
    }  # fmt: skip
    assert set(tree(tmp_path / "out")) == {*placed, "metadata.csv"}
    for name, source in placed.items():
        assert (tmp_path / "out" / name).samefile(photos / "pool" / source)  # a hard link
    listed = {row["file_name"]: row["label"] for row in rows(tmp_path / "out/metadata.csv")}
    assert listed == {name: name.split("/")[1] for name in placed}
    config = replace(CIFAR10, dataset="folder", data_dir=str(tmp_path / "out"), img_size=8)
    train, test = load_images(config, torch.device("cpu"))
    assert train.classes == test.classes == ["001", "NA", "grün, hell"]
    assert (len(train), len(test)) == (4, 3)
    shown = {
        x.removeprefix(f"{tmp_path}/out/"): pixels
        for data in (train, test)
        for x, pixels in zip(data.ids, data.pixels, strict=True)
    }
    for name, source in placed.items():
        values = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(POOL.index(source)))
        assert torch.equal(shown[name].int(), values.int()), name


def test_a_real_run_reads_an_export(tmp_path: Path):
    names = [f"{i // 20}/{i % 20}.png" for i in range(100)]
    photos = make_photos(tmp_path / "photos", names)
    label(photos, {name: "ab"[i % 2] for i, name in enumerate(names)})
    for i in range(4):
        draw(photos / f"test/{'ab'[i % 2]}/{i // 2}.png", 1000 + i)
    convert(tmp_path, "export", "out")
    data = "--dataset folder --data-dir out --img-size 16 --width 8 --epochs 1 --milestones 9"
    picks = "--cycles 1 --labels-per-cycle 20 --first-pick random --candidates all --strategy random"
    run(tmp_path, "main.py", *data.split(), *picks.split())
    (row,) = rows(tmp_path / "runs/folder-seed0/main-random/cycles.csv")
    assert row["labels"] == "20"


@pytest.mark.parametrize("source", ["out", "out/metadata.csv"])
@pytest.mark.parametrize("with_test", [False, True])
def test_an_export_comes_back_as_it_went(photos: Path, tmp_path: Path, source: str, with_test: bool):
    """Into the same images, and into a fresh folder where nothing is labeled."""
    shutil.copyfile(photos / "pool/one.png", photos / "pool/z/copy of one.png")  # of another label
    given = {**GIVEN, "z/copy of one.png": "NA", "z/b/c/deep.png": "None"}
    label(photos, given)
    flags = []
    if with_test:
        (tmp_path / "run/labeled").mkdir(parents=True)
        (tmp_path / "run/labeled/test.txt").write_text("pool/a/dup.png\r\npool/z/b/c/deep.png\r\n")
        flags = ["--run", "run"]
    convert(tmp_path, "export", "out", *flags)
    told = convert(tmp_path, "import", source)
    assert imported(told) == [0, 9, 0, 0]
    (photos / "labels.csv").unlink()
    convert(tmp_path, "import", source)
    assert labels(photos) == given


def test_the_test_set_of_the_photographs_goes_along(photos: Path, tmp_path: Path):
    label(photos, GIVEN)
    for i, name in enumerate(["001/one.png", "NA/x.jpg", "grün, hell/x.png", "NA/.y.png", "NA/deep/z.png"]):
        draw(photos / "test" / name, 100 + i)
    told = convert(tmp_path, "export", "out")
    assert exported(told)[:3] == [7, 4, 3] and "note" not in told
    tests = {name for name in tree(tmp_path / "out") if name.startswith("test")}
    assert tests == {"test/001/one.png", "test/NA/x.jpg", "test/NA/z.png", "test/grün, hell/x.png"}
    (photos / "test/?").mkdir()
    error = convert(tmp_path, "export", "out2", status=2)
    one_error(error, "convert_labels.py", "photos/test/?", "'?'")


def test_what_keeps_an_export_from_being_read_is_noted(photos: Path, tmp_path: Path):
    label(photos, GIVEN)
    told = convert(tmp_path, "export", "out")
    note, _ = told.splitlines()
    says(note, "note: ", "OUT/test/CLASS/*", "--run RUN")
    test_list(tmp_path, "pool/001.png\n")  # has no label
    note, *_ = convert(tmp_path, "export", "out1", "--run", "r").splitlines()
    says(note, "note: ", "OUT/test/CLASS/*")
    assert "--run" not in note
    draw(photos / "test/001/x.png", 0)
    says(convert(tmp_path, "export", "out2"), "note: ", "'NA'", "--dataset folder")
    label(photos, {"one.png": "001"})
    says(convert(tmp_path, "export", "out3"), "note: one class", " 2 ")


def test_only_what_is_decided_is_exported(photos: Path, tmp_path: Path):
    (photos / "labels.csv").write_text(
        "file_name,label,annotator\none,a,anne\none,b,ben\ntwo,a,anne\ntwo,a,ben\n001,?,anne\n"
        "a/dup,a,anne\na/dup,c,ben\na/dup,b,\nnowhere,b,\n"
    )
    told = convert(tmp_path, "export", "out")
    assert set(tree(tmp_path / "out")) == {"train/a/two.png", "train/b/a_dup-2.png", "metadata.csv"}
    assert exported(told)[3:] == [5, 1, 1]
    says(told, "1 row", " anne ", " ben ", " 1 of 3 ")


def test_answers_in_the_list_of_a_run_count_with_that_run(photos: Path, tmp_path: Path):
    label(photos, {"one.png": "a"})
    draw(photos / "test/a/x.png", 0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/to_label.csv").write_text("file_name,label\npool/two.png,b\npool/001.png,\n")
    convert(tmp_path, "export", "out", "--run", "run")
    assert set(tree(tmp_path / "out")) == {
        "train/a/one.png",
        "train/b/two.png",
        "test/a/x.png",
        "metadata.csv",
    }


def test_answers_in_the_list_of_a_run_that_tests_by_nothing_count(photos: Path, tmp_path: Path):
    label(photos, {"one.png": "a"})
    record(tmp_path, test_labels=0)
    (tmp_path / "r/to_label.csv").write_text("file_name,label\npool/two.png,b\npool/001.png,\n")
    says(convert(tmp_path, "export", "out", "--run", "r"), "note: ", "OUT/test/CLASS/*")
    assert set(tree(tmp_path / "out")) == {"train/a/one.png", "train/b/two.png", "metadata.csv"}


def test_a_class_counts_before_a_doubt_of_the_same_person(photos: Path, tmp_path: Path):
    label(photos, {"one.png": "a", "two.png": "?"})
    draw(photos / "test/a/x.png", 0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/to_label.csv").write_text("file_name,label\none,?\ntwo,b\ntwo,?\n001,?\n")
    told = convert(tmp_path, "export", "out", "--run", "run")
    assert set(tree(tmp_path / "out")) == {
        "train/a/one.png",
        "train/b/two.png",
        "test/a/x.png",
        "metadata.csv",
    }
    assert exported(told)[4] == 1
    (tmp_path / "x.csv").write_text("id,label\n001,?\n001,c\n001,?\n")
    convert(tmp_path, "import", "x.csv")
    assert labels(photos) == {"one.png": "a", "two.png": "?", "001.png": "c"}
    table = photos / "labels.csv"
    table.write_text(table.read_text() + "001.png,?\n")
    assert imported(convert(tmp_path, "import", "x.csv"))[:3] == [0, 1, 0]


def test_names_that_a_disk_or_the_loader_would_mix_up_are_made_different(tmp_path: Path):
    deep = "/".join(f"{i}" * 60 for i in range(5))
    names = [
        "A/x.png",
        "b/X.PNG",
        "b_x.png",
        "c/x.jpg",
        f"{deep}/y.png",
        "y.png",
        "d_e/f.png",
        "d/e_f.png",
        "d/f.png",
    ]
    photos = make_photos(tmp_path / "photos", names)
    label(photos, dict.fromkeys(names, "cat"))
    convert(tmp_path, "export", "out")
    made = sorted(x.name for x in (tmp_path / "out/train/cat").iterdir())
    assert len(made) == 9 == len({by_path(name).casefold() for name in made})
    assert {"A_x.png", "b_x.png", "b_X-2.PNG", "c_x.jpg", "y-2.png"} - set(made) == {"y-2.png"}
    assert all(len(name.encode()) <= 250 for name in made)
    convert(tmp_path, "import", "out")
    assert labels(photos) == dict.fromkeys(names, "cat")


def test_on_another_disk_files_are_copied(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    label(photos, GIVEN)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(sys, "argv", ["x", "export", str(tmp_path / "out"), "--data-dir", str(photos)])
    program().main()
    copy, source = tmp_path / "out/train/001/one.png", photos / "pool/one.png"
    assert copy.read_bytes() == source.read_bytes() and not copy.samefile(source)


def test_a_link_in_the_pool_is_exported_as_what_it_leads_to(photos: Path, tmp_path: Path):
    shutil.move(photos / "pool/one.png", tmp_path / "elsewhere.png")
    (photos / "pool/one.png").symlink_to(tmp_path / "elsewhere.png")
    label(photos, {"one.png": "a"})
    convert(tmp_path, "export", "out")
    made = tmp_path / "out/train/a/one.png"
    assert not made.is_symlink() and made.samefile(tmp_path / "elsewhere.png")


@pytest.mark.parametrize("out", ["empty", "new/deeper/out", "photos/out", "."])
def test_where_an_export_may_go(photos: Path, tmp_path: Path, out: str):
    label(photos, GIVEN)
    work = tmp_path / "work"
    work.mkdir()
    shutil.move(photos, tmp_path / "kept") if out == "." else shutil.move(photos, work / "photos")
    if out == "empty":
        (work / "empty").mkdir()
    data = tmp_path / "kept" if out == "." else "photos"
    run(work, "utils/convert_labels.py", "export", out, "--data-dir", str(data))
    assert len(rows(work / out / "metadata.csv")) == 7
    assert not list(tmp_path.rglob(".*.part"))


BAD_EXPORTS: list[tuple[dict[str, str], Make, str, tuple[str, ...]]] = [
    (GIVEN, text("out", ""), "out", ("out ",)),
    (GIVEN, lambda folder: draw(folder / "out/x.png", 0), "out", ("out ",)),
    (GIVEN, lambda folder: None, "photos", ("photos ",)),
    (GIVEN, lambda folder: None, "photos/pool/out", ("photos/pool/out", "part of the pool")),
    (GIVEN, lambda folder: None, "photos/pool", ("photos/pool", "part of the pool")),
    (GIVEN, text("x", ""), "x/out", (os.strerror(errno.ENOTDIR),)),
    ({"one.png": "a/b"}, lambda folder: None, "out", ("'a/b'", "folder", "labels.csv")),
    ({"one.png": "a\\b"}, lambda folder: None, "out", ("'a\\\\b'", "folder")),
    ({"one.png": "."}, lambda folder: None, "out", ("'.'", "folder")),
    ({"one.png": ".."}, lambda folder: None, "out", ("'..'", "folder")),
    ({"one.png": ".hidden"}, lambda folder: None, "out", ("'.hidden'", "folder")),
    ({"one.png": "ä" * 130}, lambda folder: None, "out", ("ä" * 130, "folder")),
    ({"one.png": "a\nb"}, lambda folder: None, "out", ("'a\\nb'", "class")),
    ({}, lambda folder: None, "out", ("photos/labels.csv", "label", "pool")),
    ({"one.png": "?", "two.png": "", "nowhere.png": "a"}, lambda folder: None, "out", ("photos/labels.csv", "label")),
    ({"one.png": "catt"}, text("photos/classes.txt", "cat\ndog\n"), "out", ("'catt'", "classes.txt", "'cat'?")),
    (GIVEN, lambda folder: None, "out --run nowhere", ("nowhere", "--run")),
    (GIVEN, lambda folder: (folder / "r").mkdir(), "out --run r", ("r ", "run folder", "--run")),
    (GIVEN, lambda folder: record(folder, test_labels=40), "out --run r", ("r/labeled/test.txt", "r ")),
    (GIVEN, lambda folder: test_list(folder, "pool/gone.png\n"), "out --run r",
     ("r/labeled/test.txt", "pool/gone.png", "photos/pool")),
    (GIVEN, lambda folder: test_list(folder, "\n"), "out --run r", ("r/labeled/test.txt", "image")),
    (GIVEN, lambda folder: broken(folder, "two.png"), "out", (os.strerror(errno.ENOENT),)),
]  # fmt: skip


def test_list(folder: Path, lines: str) -> None:
    (folder / "r/labeled").mkdir(parents=True)
    (folder / "r/labeled/test.txt").write_text(lines)


test_list.__test__ = False


def record(folder: Path, **parameters: object) -> None:
    (folder / "r").mkdir()
    (folder / "r/config.json").write_text(json.dumps({"parameters": parameters}))


def broken(folder: Path, name: str) -> None:
    (folder / "photos/pool" / name).unlink()
    (folder / "photos/pool" / name).symlink_to("gone.png")


@pytest.mark.parametrize("given, make, words, parts", BAD_EXPORTS, ids=range(len(BAD_EXPORTS)))
def test_a_bad_export_is_one_line_and_leaves_nothing(
    photos: Path, tmp_path: Path, given: dict[str, str], make: Make, words: str, parts: tuple[str, ...],
    refuse: Callable[..., None],
):  # fmt: skip
    label(photos, given)
    make(tmp_path)
    refuse(tmp_path, f"export {words}", *parts)
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.parametrize("make", [
    lambda folder: draw(folder / ".out.part/mine.png", 0), text(".out.part", "mine"),
    lambda folder: (folder / ".out.part").symlink_to("photos"),
])  # fmt: skip
def test_what_an_export_would_build_in_is_not_the_users(
    photos: Path, tmp_path: Path, make: Make, refuse: Callable[..., None]
):
    label(photos, GIVEN)
    make(tmp_path)
    refuse(tmp_path, "export out", ".out.part", "move it away")


@pytest.mark.parametrize("reason", [Stopped(signal.SIGTERM), OSError(errno.ENOSPC, "full"), MemoryError()])
def test_an_export_that_fails_half_way_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: BaseException
):
    label(photos, GIVEN)
    before, module = tree(tmp_path), program()
    put_one, count = module.put, []

    def put_some(source: Path, target: Path) -> None:
        put_one(source, target)
        count.append(target)
        if len(count) == 3:
            assert all(path.exists() for path in count)
            raise reason

    monkeypatch.setattr(module, "put", put_some)
    monkeypatch.setattr(sys, "argv", ["x", "export", str(tmp_path / "new/out"), "--data-dir", str(photos)])
    with pytest.raises(type(reason)):
        module.main()
    assert len(count) == 3 and tree(tmp_path) == before and not (tmp_path / "new").exists()


SLOWLY = f"""
import sys, time
sys.path[:0] = ["{ROOT}/tests"]
from shell import load_program
program = load_program("convert_labels")
put = program.put
program.put = lambda *paths: (put(*paths), print("put", flush=True), time.sleep(0.2))
program.run_script(program.main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_export_that_is_stopped_or_killed_leaves_no_out(
    photos: Path, tmp_path: Path, number: signal.Signals
):
    label(photos, GIVEN)
    (tmp_path / "slowly.py").write_text(SLOWLY)
    process = Started(tmp_path, str(tmp_path / "slowly.py"), "export", "out", "--data-dir", "photos")
    for _ in range(2):
        assert process.stdout.readline() == "put\n"
    process.send_signal(number)
    process.communicate(60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.part").exists() == (number == signal.SIGKILL)
    convert(tmp_path, "export", "out")
    assert len(rows(tmp_path / "out/metadata.csv")) == 7 and not (tmp_path / ".out.part").exists()


def test_a_disk_that_ignores_case_is_told(photos: Path, tmp_path: Path):
    module = program()
    (tmp_path / "x").mkdir()
    with user_error("'x'", "case"):
        module.make_folder(tmp_path / "x")
