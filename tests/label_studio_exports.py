"""What Label Studio makes of our tasks: its exports, as stored in tests/person/label_studio/, and what they mean.

Where label-studio-sdk is installed, `python tests/label_studio_exports.py` writes the folder again by its converter.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent)]

from pt4al.person.label_studio import label_config, tasks
from pt4al.person.labels import UNSURE

STORED = Path(__file__).parent / "person/label_studio"
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


if __name__ == "__main__":
    for kind in ("choices", "textarea"):
        with tempfile.TemporaryDirectory() as folder:
            for name, data in convert(Path(folder), kind).items():
                (STORED / name).write_bytes(data)
                print(STORED / name)
