"""What label files and class folders of other tools say of images: Label Studio's exports, tables as
on Kaggle, metadata of Hugging Face, folders that are named after classes."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pt4al.base.console import UserError
from pt4al.data.ids import SUFFIXES
from pt4al.data.listing import folders_in, images_below, images_in
from pt4al.person.labels import FILE_COLUMNS, LabelFile, clean, decoded

SPLITS = {"train", "test", "val", "valid", "validation"}
Item = tuple[str, Any]  # where it stands, and what it is: an object, if all is well


class Claim(NamedTuple):
    """That an image is of a class.

    Attributes:
        place: where this is said.
        image: a path, an address, or a name with or without ending.
        label: a class or `?`; empty: nothing is said.
        copy: a file that shows the image, if there is one.
    """

    place: str
    image: str
    label: str
    annotator: str = ""
    copy: Path | None = None


def read_source(path: Path, column: str | None) -> list[Claim]:
    """All that a file or folder says, empty labels too.

    Args:
        column: where the labels stand; None: `label`, or the only question of Label Studio.

    Raises:
        UserError: it is not there, of no known form, or damaged.
    """
    if path.is_dir():
        if column:
            raise UserError(f"--label-column {column}: {path} is a folder, which has no columns")
        return list(read_folders(path))
    if not path.exists():
        raise UserError(f"{path} does not exist")
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return list(read_table(path, column or "label"))
    if ending == ".jsonl":
        lines = ((f"{path} line {i}", x) for i, x in enumerate(decoded(path).split("\n"), 1))
        records = [(place, parsed(line, place)) for place, line in lines if line.strip()]
        return list(read_records(path, records, column or "label"))
    if ending != ".json":
        raise UserError(
            f"{path} is not a folder, .json, .jsonl, .csv or .tsv (of an archive, unpack it first)"
        )
    content = parsed(decoded(path), str(path))
    items = content if isinstance(content, list) else [content]
    if any(isinstance(x, dict) and {"annotations", "completions"} & x.keys() for x in items):
        return list(read_tasks(path, items, column))
    records = [(f"{path} record {i}", item) for i, item in enumerate(items, 1)]
    return list(read_records(path, records, column or "label"))


def parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error})") from None


# --- folders


def read_folders(root: Path) -> Iterator[Claim]:
    """FOLDER/CLASS/**, or FOLDER/train/CLASS/**, FOLDER/test/CLASS/** where all folders are splits
    that hold folders alone."""
    folders = folders_in(root)
    if all(folder.name.lower() in SPLITS and not images_in(folder) for folder in folders):
        folders = [inner for folder in folders for inner in folders_in(folder)]
    found = [(folder, path) for folder in folders for path in images_below(folder)]
    if not found:
        raise UserError(f"{root} holds no images in class folders: {root}/CLASS/*")
    for folder, path in found:
        yield Claim(str(path), path.relative_to(folder).as_posix(), clean(folder.name), copy=path)


def beside(path: Path, name: str) -> Path | None:
    """The image that a file names relative to itself, as metadata.csv does."""
    file = path.parent / name
    try:
        return file if file.suffix.lower() in SUFFIXES and file.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


# --- tables and records


def read_table(path: Path, column: str) -> Iterator[Claim]:
    for row in LabelFile(path, label=column).rows():
        place = f"{path} line {row.line}"
        if row.label.startswith(('{"choices":', '{"text":', "[{")):
            raise not_one(place, row.label)
        yield Claim(place, row.file, row.label, row.annotator, beside(path, row.file))


def not_one(place: str, label: Any) -> UserError:
    text = label if isinstance(label, str) else json.dumps(label)
    return UserError(f"{place}: {text[:60]} is not one label: an image has one")


def read_records(path: Path, records: list[Item], column: str) -> Iterator[Claim]:
    """JSON_MIN of Label Studio, metadata.jsonl: an object an image."""
    for place, record in records:
        if not isinstance(record, dict):
            raise UserError(f"{place} is not an object: neither an export of Label Studio nor metadata")
    names = {name: None for _, record in records for name in record}
    if column not in names:
        found = ", ".join(names) or "nothing"
        raise UserError(f"{path}: no field {column} (found: {found}): give --label-column")
    for place, record in records:
        label = record.get(column)
        if isinstance(label, bool) or not isinstance(label, str | int | None):
            raise not_one(place, label)
        image = image_of(record, place)
        yield Claim(place, image, text(label), text(record.get("annotator")), beside(path, image))


def text(value: Any) -> str:
    return "" if value is None else clean(str(value))


def image_of(data: dict[str, Any], place: str) -> str:
    """What names the image of a task or record: the field of a known name, or one that ends as an
    image does."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    for name in FILE_COLUMNS:
        if name in texts:
            return texts[name]
    for value in texts.values():
        if Path(path_in(value)).suffix.lower() in SUFFIXES:
            return value
    raise UserError(f"{place} names no image (found: {', '.join(data) or 'nothing'})")


def path_in(image: str) -> str:
    """The path in an address of Label Studio or of a store; any other text is a path itself."""
    if "/data/local-files/" in image and "?d=" in image:
        return unquote(image.partition("?d=")[2].partition("&")[0]).lstrip("/")
    if re.match(r"[a-z][a-z0-9+.-]+://", image, re.IGNORECASE):
        image = unquote(urlsplit(image).path)
    elif image.startswith("/data/upload/"):
        image = unquote(image)
    if image.startswith("/data/upload/"):  # eight digits stand before each name there
        image = re.sub(r"^[0-9a-f]{8}-", "", image.rpartition("/")[2])
    return image.lstrip("/")


# --- tasks of Label Studio


def read_tasks(path: Path, tasks: Iterable[Any], column: str | None) -> Iterator[Claim]:
    """JSON of Label Studio: tasks with annotations, an annotation a person."""
    for number, task in enumerate(tasks, 1):
        task = task if isinstance(task, dict) else {}
        place = f"{path} task {task.get('id', number)}"
        data, annotations = task.get("data"), task.get("annotations", task.get("completions"))
        if not isinstance(data, dict) or not are_objects(annotations):
            raise UserError(f"{place} has no data or annotations: not an export of Label Studio")
        image = image_of(data, place)
        for annotation in annotations or [{}]:
            label = label_of(annotation, column, place)
            yield Claim(place, image, label, person_of(annotation), beside(path, image))


def are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def label_of(annotation: dict[str, Any], column: str | None, place: str) -> str:
    """The choice or the text of an annotation; empty where it was skipped or says nothing."""
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        return ""
    results = annotation.get("result") or []
    if not are_objects(results):
        raise UserError(f"{place}: its result is not a list of objects: not an export of Label Studio")
    answers: dict[str, list[Any]] = {}
    for result in results:
        value = result.get("value")
        key = {"choices": "choices", "textarea": "text"}.get(str(result.get("type")))
        if key and isinstance(value, dict) and (texts := value.get(key)):
            texts = texts if isinstance(texts, list) else [texts]
            answers.setdefault(str(result.get("from_name")), []).extend(texts)
    if column is None:
        column = "label" if "label" in answers or len(answers) != 1 else next(iter(answers))
        if answers and column not in answers:
            raise UserError(f"{place} answers {', '.join(answers)}: choose by --label-column")
    texts = answers.get(column, [""])
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise not_one(place, texts)
    return clean(texts[0])


def person_of(annotation: dict[str, Any]) -> str:
    """Email or id of who made an annotation, as Label Studio's own tables have it."""
    who = annotation.get("completed_by")
    return text((who.get("email") or who.get("id")) if isinstance(who, dict) else who)
