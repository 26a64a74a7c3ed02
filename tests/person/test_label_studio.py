"""What a run writes for Label Studio comes back as a labels.csv that needs no conversion.

tests/person/label_studio/ holds what Label Studio's own converter made; where label-studio-sdk is
installed, a test runs the converter itself. `python tests/person/test_label_studio.py` writes the folder
anew."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]  # as a program

from pt4al.data.ids import by_path
from pt4al.person.agreement import Answers, read_answers
from pt4al.person.label_studio import HOTKEYS, label_config, tasks
from pt4al.person.labels import UNSURE, LabelFile

STORED = Path(__file__).parent / "label_studio"
CLASSES = ["001", "NA", "None", "cat, tabby", 'häßlich "grau" <&>', "$5 Schein"]
FILES = [
    "pool/a.jpg", "pool/b.jpg", "pool/c.jpg", "pool/Ferien 2024/ä & ö.jpg", "pool/d,e.png", "pool/100%.jpg",
    "pool/q#1+2.jpg", "pool/cannot.jpg", "pool/two.jpg", "pool/skipped.jpg", "pool/open.jpg",
    'pool/deep/er/and/deeper/"x".jpg', "pool/split.jpg",
]  # fmt: skip
ANNE, BEN = 1, 7
SAID: list[list[tuple[int, str | None]]] = [  # of each picture; None: skipped
    [(ANNE, "001")], [(ANNE, "NA")], [(ANNE, "None")], [(ANNE, CLASSES[4])], [(BEN, "cat, tabby")],
    [(BEN, "001"), (ANNE, "001")], [(ANNE, "$5 Schein")], [(ANNE, UNSURE)], [(ANNE, "NA"), (BEN, "NA")],
    [(ANNE, None)], [], [(ANNE, "None")], [(ANNE, "001"), (BEN, "NA")],
]  # fmt: skip
MEANT = {file: said[0][1] for file, said in zip(FILES, SAID, strict=True) if said}
MEANT = {file: label for file, label in MEANT.items() if label and file != "pool/split.jpg"}


def export(kind: str) -> list[dict[str, Any]]:
    """The tasks as Label Studio exports them in JSON, annotated as in `SAID`, with `choices` by the
    ids of the annotators, with `textarea` by their emails."""
    numbers, exported = iter(range(101, 200)), []
    for number, (task, said) in enumerate(zip(tasks(FILES), SAID, strict=True), 31):
        annotations = []
        for who, label in said:
            value = {"choices": [label]} if kind == "choices" else {"text": [label]}
            origin = {"origin": "manual", "from_name": "label", "to_name": "image", "type": kind}
            email = {"id": who, "email": f"{who}@example.org", "first_name": "", "last_name": ""}
            moment = f"2026-11-24T09:{number}:{who:02}.000000Z"
            annotations.append({
                "id": next(numbers), "completed_by": who if kind == "choices" else email,
                "result": [{"value": value, "id": f"r{number}_{who}", **origin}] if label else [],
                "was_cancelled": label is None, "ground_truth": False, "created_at": moment, "updated_at": moment,
                "draft_created_at": None, "lead_time": 2.5, "prediction": {}, "result_count": 1, "import_id": None,
                "last_action": None, "task": number, "project": 3, "updated_by": who, "parent_prediction": None,
                "parent_annotation": None, "last_created_by": None,
            })  # fmt: skip
        exported.append({
            "id": number, "annotations": annotations, "file_upload": "0c1d9f5e-to_label.json", "drafts": [],
            "predictions": [], **task, "meta": {}, "created_at": "2026-11-24T08:00:00.000000Z",
            "updated_at": "2026-11-24T10:00:00.000000Z", "inner_id": number - 30,
            "total_annotations": sum(label is not None for _, label in said),
            "cancelled_annotations": sum(label is None for _, label in said), "total_predictions": 0,
            "comment_count": 0, "unresolved_comment_count": 0, "last_comment_updated_at": None, "project": 3,
            "updated_by": ANNE, "comment_authors": [],
        })  # fmt: skip
    return exported


def convert(folder: Path, kind: str) -> dict[str, bytes]:
    """What label-studio-sdk's converter makes of an export, by file name."""
    from label_studio_sdk.converter import Converter

    made = {f"{kind}.json": (json.dumps(export(kind), indent=1) + "\n").encode()}
    (folder / f"{kind}.json").write_bytes(made[f"{kind}.json"])
    converter = Converter(label_config(CLASSES if kind == "choices" else []), str(folder))
    for form, name in (("CSV", "result.csv"), ("TSV", "result.csv"), ("JSON_MIN", "result.json")):
        assert form in converter.supported_formats
        converter.convert(str(folder / f"{kind}.json"), str(folder / form), form, is_dir=False)
        ending = "_min.json" if form == "JSON_MIN" else f".{form.lower()}"
        made[f"{kind}{ending}"] = (folder / form / name).read_bytes()
    return made


@pytest.mark.parametrize("kind", ["choices", "textarea"])
def test_the_stored_files_are_what_the_converter_makes(tmp_path: Path, kind: str):
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    for name, data in convert(tmp_path, kind).items():
        assert (STORED / name).read_bytes() == data, name


@pytest.mark.parametrize("kind", ["choices", "textarea"])
def test_the_converter_read_the_tasks_and_the_answers_of_this_test(kind: str):
    assert json.loads((STORED / f"{kind}.json").read_bytes()) == export(kind)


def read(path: Path, classes: list[str]) -> Answers:
    return read_answers([path], {by_path(file): i for i, file in enumerate(FILES)}, classes)


@pytest.mark.parametrize("name", ["choices.csv", "choices.tsv", "textarea.csv", "textarea.tsv"])
def test_an_exported_table_is_a_label_file(name: str):
    answers = read(STORED / name, CLASSES)
    assert {FILES[i]: label for i, label in answers.labels.items()} == MEANT and len(MEANT) == 10
    anne, ben = (str(x) if "choices" in name else f"{x}@example.org" for x in (ANNE, BEN))
    assert sorted(answers.disagreements) == [
        ["pool/split.jpg", "001", anne],
        ["pool/split.jpg", "NA", ben],
    ]
    assert len(answers.notes) == 1 and "agree on 2 of 3 images" in answers.notes[0]


def test_an_exported_table_takes_answers_as_labels_csv(tmp_path: Path):
    path = tmp_path / "labels.csv"
    path.write_bytes((STORED / "choices.csv").read_bytes())
    file = LabelFile(path)
    file.answer("pool/open.jpg", "NA")
    file.answer("pool/split.jpg", "001", str(BEN))
    file.write()
    labels = {FILES[i]: label for i, label in read(path, CLASSES).labels.items()}
    assert labels == {**MEANT, "pool/open.jpg": "NA", "pool/split.jpg": "001"}


# --- tasks


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_the_path_in_a_task_is_what_a_server_reads_out_of_its_address(names: list[str]):
    files = [f"pool/{name}" for name in names]
    for file, task in zip(files, tasks(files), strict=True):
        address = urlsplit(task["data"]["image"])
        assert task["data"]["file_name"] == file and address.path == "/data/local-files/"
        assert parse_qs(address.query, keep_blank_values=True) == {"d": [file]}
        assert not address.fragment


def test_a_name_that_is_not_utf_8_keeps_its_bytes():
    (task,) = tasks(["pool/gr\udcfcn.jpg"])
    assert task["data"]["image"].endswith("=pool/gr%FCn.jpg")


# --- the labelling interface


def choices(classes: list[str]) -> list[dict[str, str]]:
    (image, question) = ElementTree.fromstring(label_config(classes))
    assert (image.tag, image.attrib) == ("Image", {"name": "image", "value": "$image"})
    assert question.tag == "Choices" and question.attrib == {
        "name": "label",
        "toName": "image",
        "choice": "single",
        "required": "true",
    }
    assert {choice.tag for choice in question} == {"Choice"}
    return [choice.attrib for choice in question]


def test_every_class_is_a_choice_with_a_key_and_cannot_tell_is_the_last():
    found = choices(CLASSES)
    assert [choice["value"] for choice in found] == [*CLASSES, "?"]
    assert [choice["hotkey"] for choice in found] == list("1234567")
    assert found[-1]["hint"] == "cannot tell"


def test_keys_are_digits_then_letters_and_end_where_there_are_no_more():
    found = choices([str(i) for i in range(40)])
    assert [choice.get("hotkey") for choice in found] == [*HOTKEYS, *[None] * (41 - len(HOTKEYS))]
    assert HOTKEYS.startswith("1234567890q") and len(set(HOTKEYS)) == len(HOTKEYS) == 33
    assert "u" not in HOTKEYS  # which takes a selection back


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)


@given(st.lists(NAMES.filter(lambda name: name != "?"), min_size=1, unique=True))
def test_names_of_any_letters_are_well_formed(classes: list[str]):
    assert [choice["value"] for choice in choices(classes)] == [*classes, "?"]


def test_a_dollar_in_a_name_calls_no_field_of_the_task():
    (choice, other, _) = choices(["<$image>", "plain"])
    assert choice["alias"] == "<$image>" and choice["html"] == "&lt;$image&gt;"
    assert "alias" not in other and "html" not in other


def test_without_classes_a_name_is_typed_in():
    (_, question) = ElementTree.fromstring(label_config([]))
    assert question.tag == "TextArea" and question.attrib["name"] == "label"
    assert question.attrib["maxSubmissions"] == "1" and question.attrib["required"] == "true"


if __name__ == "__main__":
    import tempfile

    for kind in ("choices", "textarea"):
        with tempfile.TemporaryDirectory() as folder:
            for name, data in convert(Path(folder), kind).items():
                (STORED / name).write_bytes(data)
                print(STORED / name)
