"""What a run writes for Label Studio comes back as a labels.csv that needs no conversion.

tests/person/label_studio/ holds what Label Studio's own converter made; where label-studio-sdk is installed, a
test runs the converter itself."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_exports import ANNE, BEN, CLASSES, FILES, MEANT, STORED, convert, export

from pt4al.data.ids import by_path
from pt4al.person.agreement import Answers, read_answers
from pt4al.person.label_studio import HOTKEYS, label_config, tasks
from pt4al.person.labels import LabelFile


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


# --- the labeling interface


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
