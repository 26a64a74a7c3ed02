"""What label files and class folders of other tools say of images: Label Studio's exports, tables as
on Kaggle, metadata of Hugging Face, folders that are named after classes."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pt4al.base.console import UserError, printable
from pt4al.data.ids import SUFFIXES
from pt4al.data.listing import folders_in, images_below, images_in
from pt4al.person.labels import LabelFile, clean, decoded
from pt4al.person.naming import FILE_COLUMNS, Find, image_columns, is_path

NO_LABEL = "no_label"  # the folder of images without a tag, of CVAT
SPLITS = {"train", "test", "val", "valid", "validation"}
READ = {
    "choices": "choices",
    "textarea": "text",
}  # kinds of questions of Label Studio, and where the answer is
ROBOFLOW = re.compile(r"(.+)_([A-Za-z0-9]+)\.rf\.[A-Za-z0-9]+(\.|$)")  # d0001_png.rf.0b1c....jpg
UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # of Label Studio: 0ab1c2d3-d0001.png
DATE = re.compile(r"(19|20)\d\d[01]\d[0-3]\d-")  # of a camera: 20230101-d0001.png
Item = tuple[str, Any]  # where it stands, and what it is: an object, if all is well


class Claim(NamedTuple):
    """That an image is of a class.

    Attributes:
        place: where this is said.
        image: a path, an address, or a name with or without ending.
        label: a class or `?`; empty: nothing is said.
        copy: a file that shows the image, if there is one.
        unread: kinds of answers that were given but are not read, such as ratings.
    """

    place: str
    image: str
    label: str
    annotator: str = ""
    copy: Path | None = None
    unread: tuple[str, ...] = ()


def read_source(path: Path, find: Find, column: str | None = None, image: str | None = None) -> list[Claim]:
    """All that a file or folder says, empty labels too.

    Args:
        find: of the pool.
        column: where the labels stand; None: `label`, or the only question of Label Studio.
        image: where the names of the images stand; None: where they name images of the pool.

    Raises:
        UserError: it is not there, of no known form, or damaged.
    """
    if path.is_dir():
        for flag, name in (("--label-column", column), ("--image-column", image)):
            if name:
                raise UserError(f"{flag} {name}: {path} is a folder, which has no columns")
        return list(read_folders(path))
    if not path.exists():
        raise UserError(f"{path} does not exist")
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return list(read_table(path, find, column or "label", image or ""))
    if ending == ".jsonl":
        lines = ((f"{path} line {i}", x) for i, x in enumerate(decoded(path).split("\n"), 1))
        records = [(place, parsed(line, place)) for place, line in lines if line.strip()]
        return list(read_records(path, find, records, column or "label", image))
    if ending != ".json":
        raise UserError(
            f"{path} is not a folder, .json, .jsonl, .csv or .tsv (of an archive, unpack it first)"
        )
    content = parsed(decoded(path), str(path))
    items = content if isinstance(content, list) else [content]
    if any(isinstance(x, dict) and {"annotations", "completions"} & x.keys() for x in items):
        return list(read_tasks(path, find, items, column, image))
    records = [(f"{path} record {i}", item) for i, item in enumerate(items, 1)]
    return list(read_records(path, find, records, column or "label", image))


def parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error})") from None


# --- folders


def read_folders(root: Path) -> Iterator[Claim]:
    """FOLDER/CLASS/**, with any folders above the classes: train/, test/, seg_train/seg_train/."""
    found = list(class_folders(root, {root.resolve()}))
    folders = [folder for folder, _ in found]
    if all(folder.name.lower() in SPLITS for folder in folders):
        raise UserError(f"{root} holds no images in class folders: {root}/CLASS/*")
    (first, depth), *others = found
    if not others and any(images_in(folder) for folder in folders_in(first)):
        raise UserError(
            f"{first} holds images, and folders of images: which are classes? Move its images away"
        )
    if odd := next((folder for folder, other in others if other != depth), None):
        raise UserError(
            f"{first} and {odd} hold images, but not at one depth: which are classes? "
            "import the folder above them alone"
        )
    above = {folder.relative_to(root).parts[0] for folder in folders if folder.parent != root}
    if above := sorted(name for name in above if name.lower() not in SPLITS):
        names = ", ".join(above[:5])
        print(printable(f"no classes, as they hold folders alone: {names} ({len(above)} in {root})"))
    if loose := images_in(root):
        print(printable(f"{root}: {len(loose)} images outside of the class folders are left out"))
    for folder in folders:
        for path in images_below(folder):
            label = "" if folder.name == NO_LABEL else clean(folder.name)
            yield Claim(str(path), path.relative_to(folder).as_posix(), label, copy=path)


def class_folders(root: Path, seen: set[Path], depth: int = 0) -> Iterator[tuple[Path, int]]:
    """The folders below that hold images, and how deep they lie; what lies in those is of their class. A
    folder that holds none is no class, whatever its name."""
    for folder in folders_in(root):
        if images_in(folder):
            yield folder, depth
        elif (real := folder.resolve()) not in seen:
            yield from class_folders(folder, {*seen, real}, depth + 1)


def or_beside(path: Path, find: Find) -> Find:
    """`find`, which knows the images beside a file too."""

    def found(text: str) -> str | None:
        key = find(text)
        return "" if key is None and beside(path, text) else key

    return found


def beside(path: Path, name: str) -> Path | None:
    """The image that a file names relative to itself, as metadata.csv does."""
    file = path.parent / name
    try:
        return file if file.suffix.lower() in SUFFIXES and file.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


# --- tables and records


def read_table(path: Path, find: Find, column: str, image: str) -> Iterator[Claim]:
    for row in LabelFile(path, or_beside(path, find), label=column, image=image).rows():
        place = f"{path} line {row.line}"
        if row.label.startswith(('{"choices":', '{"text":', "[{")):
            raise not_one(place, row.label)
        yield Claim(place, row.file, row.label, row.annotator, beside(path, row.file))


def not_one(place: str, label: Any) -> UserError:
    text = label if isinstance(label, str) else json.dumps(label)
    if (kind := re.match(r'\[?\{"([a-z]+)":', text)) and kind[1] not in READ.values():
        return UserError(f"{place}: {text[:60]} is of the kind {kind[1]}, which is not read")
    return UserError(f"{place}: {text[:60]} is not one label: an image has one")


def read_records(
    path: Path, find: Find, records: list[Item], column: str, image: str | None
) -> Iterator[Claim]:
    """JSON_MIN of Label Studio, metadata.jsonl: an object an image."""
    for place, record in records:
        if not isinstance(record, dict):
            raise UserError(f"{place} is not an object: neither an export of Label Studio nor metadata")
    names = {name: None for _, record in records for name in record}
    if column not in names:
        found = ", ".join(names) or "nothing"
        raise UserError(f"{path}: no field {column} (found: {found}): give --label-column")
    others = [
        (place, {x: value for x, value in record.items() if x not in (column, "annotator")})
        for place, record in records
    ]
    images = images_of(others, or_beside(path, find), image)
    for (place, record), name in zip(records, images, strict=True):
        label = record.get(column)
        if isinstance(label, bool) or not isinstance(label, str | int | None):
            raise not_one(place, label)
        yield Claim(place, name, text(label), text(record.get("annotator")), beside(path, name))


def text(value: Any) -> str:
    return "" if value is None else clean(str(value))


def images_of(records: Sequence[Item], find: Find, image: str | None) -> Iterator[str]:
    """What names the image of each task or record, which are objects: the field `image`, or the first
    one that it has of those that may, by `image_columns`, else one that holds a path."""
    rows = [
        {name: str(x) for name, x in data.items() if type(x) in (str, int) and x != ""} for _, data in records
    ]
    names = {name: None for row in rows for name in row}
    columns = {name: [row.get(name, "") for row in rows] for name in names}
    able = [image] if image else image_columns(columns, lambda i: records[i][0], find)
    explicit = able[:1] == ["file_name"] and any(find(x) is not None for x in columns["file_name"])
    able = able[:1] if explicit else able
    for (place, data), row in zip(records, rows, strict=True):
        others = [] if image or explicit else [x for x in row if x not in FILE_COLUMNS]
        paths = [x for x in others if is_path(path_in(row[x]))]
        name = next((x for x in [*able, *paths] if x in row), None)
        if name is None:
            what = f"has no field {image}" if image else "names no image"
            raise UserError(f"{place} {what} (found: {', '.join(data) or 'nothing'})")
        yield row[name]


def path_in(image: str) -> str:
    """The path in an address of Label Studio or of a store; any other text is a path itself."""
    if "/data/local-files/" in image and "?d=" in image:
        return unquote(image.partition("?d=")[2].partition("&")[0]).lstrip("/")
    if scheme := re.match(r"([a-z][a-z0-9+.-]+)://", image, re.IGNORECASE):
        web = scheme[1].lower() in ("http", "https", "file")  # a key of a store may hold `#` and `?`
        image = unquote(urlsplit(image).path if web else image[scheme.end() :].partition("/")[2])
    elif image.startswith("/data/upload/"):
        image = unquote(image)
    return image.lstrip("/")


def originals(path: str, label: str) -> Iterator[str]:
    """What an image may have been called before another tool renamed it."""
    name = path.rpartition("/")[2]
    if (parts := ROBOFLOW.match(name)) and f".{parts[2].lower()}" in SUFFIXES:
        yield f"{parts[1]}.{parts[2]}"
    if (parts := UPLOADED.match(name)) and (path.startswith("data/upload/") or not DATE.match(name)):
        yield parts[1]
    if label and path.startswith(f"{label}_"):  # CVAT, below the folder of a class
        yield path.removeprefix(f"{label}_")


# --- tasks of Label Studio


def read_tasks(
    path: Path, find: Find, tasks: Sequence[Any], column: str | None, image: str | None
) -> Iterator[Claim]:
    """JSON of Label Studio: tasks with annotations, an annotation a person."""
    places, data = [], []
    for number, task in enumerate(tasks, 1):
        task = task if isinstance(task, dict) else {}
        places.append(f"{path} task {task.get('id', number)}")
        data.append(task.get("data"))
        if not isinstance(data[-1], dict) or not are_objects(annotations_of(task)):
            raise UserError(f"{places[-1]} has no data or annotations: not an export of Label Studio")
    images = images_of(list(zip(places, data, strict=True)), or_beside(path, find), image)
    answered = question(path, [x for task in tasks for x in annotations_of(task)], column)
    for place, task, name in zip(places, tasks, images, strict=True):
        for annotation in annotations_of(task) or [{}]:
            label = label_of(annotation, answered, place)
            unread = kinds_unread(annotation, column)
            yield Claim(place, name, label, person_of(annotation), beside(path, name), unread)


def annotations_of(task: dict[str, Any]) -> Any:
    return task.get("annotations", task.get("completions"))


def question(path: Path, annotations: Sequence[dict[str, Any]], column: str | None) -> str:
    """The question of a project whose answers are the labels: `column`, else `label`, or the only one.

    Raises:
        UserError: it is not among them, or there are several.
    """
    results = [x for annotation in annotations for x in annotation.get("result") or []]
    asked = {str(x.get("from_name")): None for x in results if isinstance(x, dict)}
    read = {str(x.get("from_name")): None for x in results if isinstance(x, dict) and x.get("type") in READ}
    if column and asked and column not in asked:
        raise UserError(f"{path} has no question {column} (found: {', '.join(asked)}): see --label-column")
    if not column and len(read) > 1 and "label" not in read:
        raise UserError(f"{path} answers {', '.join(read)}: choose by --label-column")
    return column or next(iter(read if len(read) == 1 and "label" not in read else ["label"]))


def are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def kinds_unread(annotation: dict[str, Any], column: str | None) -> tuple[str, ...]:
    """Of its answers to the question that is asked for, or to any."""
    results = [] if annotation.get("was_cancelled") else annotation.get("result") or []
    kinds = {str(x.get("type")) for x in results if column in (None, x.get("from_name"))}
    return tuple(sorted(kinds - READ.keys()))


def label_of(annotation: dict[str, Any], column: str, place: str) -> str:
    """The choice or the text of an annotation; empty where it was skipped or says nothing."""
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        return ""
    results = annotation.get("result") or []
    if not are_objects(results):
        raise UserError(f"{place}: its result is not a list of objects: not an export of Label Studio")
    answers: dict[str, list[Any]] = {}
    for result in results:
        value = result.get("value")
        key = READ.get(str(result.get("type")))
        if key and isinstance(value, dict) and (texts := value.get(key)):
            texts = texts if isinstance(texts, list) else [texts]
            answers.setdefault(str(result.get("from_name")), []).extend(texts)
    texts = answers.get(column, [""])
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise not_one(place, texts)
    return clean(texts[0])


def person_of(annotation: dict[str, Any]) -> str:
    """Email or id of who made an annotation, as Label Studio's own tables have it."""
    who = annotation.get("completed_by")
    return text((who.get("email") or who.get("id")) if isinstance(who, dict) else who)
