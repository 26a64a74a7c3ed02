"""What a run writes for Label Studio where it waits for labels: its tasks, and how it asks.

The CSV that Label Studio exports of them is a labels.csv as it stands: `file_name` comes back with
each task, and the question is called `label`.
"""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pt4al.person.labels import UNSURE

# The keys that Label Studio gives by itself, in its order. The editor uses others (u).
HOTKEYS = "1234567890qwetasdfgzxcvbyiopjklnm"


def tasks(files: Sequence[str]) -> list[dict[str, dict[str, str]]]:
    """A task an image.

    Args:
        files: paths below the folder of photographs, which is Label Studio's document root for local
            files.
    """
    address = "/data/local-files/?d="
    return [
        {"data": {"image": address + quote(file, errors="surrogateescape"), "file_name": file}}
        for file in files
    ]  # fmt: skip


def label_config(classes: Sequence[str]) -> str:
    """The labeling interface, XML: one key a class, or a line of text where no class is known yet."""
    if classes:
        lines = [
            '  <Choices name="label" toName="image" choice="single" required="true">',
            *(choice(name, i) for i, name in enumerate([*classes, UNSURE])),
            "  </Choices>",
        ]
    else:
        lines = [
            '  <TextArea name="label" toName="image" maxSubmissions="1" required="true" editable="true"',
            '            placeholder="its class, or ? where you cannot tell"/>',
        ]
    return "\n".join(["<View>", '  <Image name="image" value="$image"/>', *lines, "</View>", ""])


def choice(name: str, i: int) -> str:
    """The i-th choice; the 34th and later have no key."""
    fields = {"value": name}
    if "$" in name:  # in `value` that calls a field of the task; these two are shown and exported
        fields |= {"alias": name, "html": escape(name)}
    if i < len(HOTKEYS):
        fields["hotkey"] = HOTKEYS[i]
    if name == UNSURE:
        fields["hint"] = "cannot tell"
    return f"    <Choice {' '.join(f'{key}={quoteattr(text)}' for key, text in fields.items())}/>"
