"""labels.csv and classes.txt as people and their programs write them: nothing is lost, and what
cannot be used is named in one line."""

import csv
import errno
import io
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import says, user_error

from pt4al.base.console import UserError
from pt4al.data.ids import by_path
from pt4al.person.agreement import Answers, read_answers
from pt4al.person.labels import UNSURE, LabelFile, add_class, editing, locked, read_classes
from pt4al.person.naming import Finder, below_pool

POOL = [
    "pool/a.jpg",
    "pool/b.jpg",
    "pool/sub/c.jpg",
    "pool/ä, ö.jpg",
    "pool/1/2/3/d.jpg",
    "pool/9/2/3/d.jpg",
]
POSITIONS = {by_path(file): i for i, file in enumerate(POOL)}


def labels_in(folder: Path, text: str | bytes, classes: tuple[str, ...] = ()) -> dict[str, str]:
    """What a labels.csv of this content says, by image."""
    return {POOL[i]: label for i, label in answers_in(folder, text, classes).labels.items()}


def answers_in(folder: Path, text: str | bytes, classes: tuple[str, ...] = ()) -> Answers:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_answers([path], POSITIONS, classes)


# --- what is taken

TABLE = "file_name,label\npool/a.jpg,001\npool/b.jpg,NA\npool/sub/c.jpg,None\n"
SAID = {"pool/a.jpg": "001", "pool/b.jpg": "NA", "pool/sub/c.jpg": "None"}
FORMS: dict[str, str | bytes] = {
    "plain": TABLE,
    "CRLF": TABLE.replace("\n", "\r\n"),
    "CR alone, of an old Mac": TABLE.replace("\n", "\r"),
    "CR CR LF, written twice": TABLE.replace("\n", "\r\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + TABLE.encode(),
    "no end of the last line": TABLE.rstrip("\n"),
    "empty lines": "\n\n" + TABLE.replace("\n", "\n\n"),
    "lines of commas": TABLE + ",\n,,,\n",
    "semicolons": TABLE.replace(",", ";"),
    "tabs": TABLE.replace(",", "\t"),
    "sep=; for Excel": "sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"),
    "sep= with a mark": b"\xef\xbb\xbf" + b"sep=,\n" + TABLE.encode(),
    "quoted": '"file_name","label"\n"pool/a.jpg","001"\n"pool/b.jpg","NA"\n"pool/sub/c.jpg","None"\n',
    "spaces": TABLE.replace(",", " , ").replace("\n", " \n"),
    "header in capitals": TABLE.replace("file_name,label", "File_Name,LABEL"),
    "other columns": "id,label,file_name,x\n7,001,pool/a.jpg,\n8,NA,pool/b.jpg,y\n,None,pool/sub/c.jpg,\n",
    "a header with more commas": "file_name;label;seen, by whom, and when\n"
    "pool/a.jpg;001;me\npool/b.jpg;NA;\npool/sub/c.jpg;None;\n",
    "pandas index": ",file_name,label\n0,pool/a.jpg,001\n1,pool/b.jpg,NA\n2,pool/sub/c.jpg,None\n",
    "no ending, other ending": TABLE.replace("a.jpg", "a").replace("b.jpg", "b.PNG"),
    "paths below pool": TABLE.replace("pool/", ""),
    "paths with ./": TABLE.replace("pool/", "./pool/"),
    "paths from the root": TABLE.replace("pool/", "/home/me/photos/pool/"),
    "paths of Windows": TABLE.replace("pool/", "C:\\photos\\pool\\").replace("/", "\\"),
    "rows of Excel, without the last empty fields": "file_name,label,annotator\n"
    "pool/a.jpg,001\npool/b.jpg,NA\npool/sub/c.jpg,None,\npool/9/2/3/d.jpg\n",
    "one row said twice": TABLE + "pool/a.jpg,001\n",
    "empty labels beside": TABLE + "pool/a.jpg,\n",
    **{f"column {x}": TABLE.replace("file_name", x) for x in ("filename", "image", "image_id", "id", "path")},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_means_the_same_in_every_form(tmp_path: Path, form: str):
    assert labels_in(tmp_path, FORMS[form]) == SAID


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_changes_that_label_alone_and_keeps_the_form(tmp_path: Path, form: str):
    path = tmp_path / "labels.csv"
    labels_in(tmp_path, FORMS[form])
    before = LabelFile(path)
    with editing(tmp_path) as file:
        file.answer("pool/b.jpg", "x;y,z'")
        file.answer("pool/9/2/3/d.jpg", "new")
    said = read_answers([path], POSITIONS, ()).labels
    assert said == {0: "001", 1: "x;y,z'", 2: "None", 5: "new"}
    after = LabelFile(path)
    for name in ("header", "delimiter", "mark", "end", "first"):
        assert getattr(after, name) == getattr(before, name), name
    answered = {by_path("pool/b.jpg"), by_path("pool/9/2/3/d.jpg")}
    kept = [
        line
        for row, (_, line) in zip(before.rows(), before.lines, strict=True)
        if by_path(below_pool(row.file)) not in answered
    ]
    assert kept and [line for _, line in after.lines if line in kept] == kept


def test_a_file_without_a_new_answer_is_not_written(tmp_path: Path):
    text = "file_name,label\r\n\r\n'pool/a.jpg',  001\r\npool/a.jpg,001"
    (tmp_path / "labels.csv").write_text(text, newline="")
    with editing(tmp_path) as file:
        file.answer("a.jpg", "001")
    assert (tmp_path / "labels.csv").read_bytes() == text.encode()


def test_no_file_is_made_where_there_is_no_answer(tmp_path: Path):
    with editing(tmp_path):
        pass
    assert not (tmp_path / "labels.csv").exists()
    with editing(tmp_path) as file:
        file.answer("pool/a.jpg", "cat")
    assert (tmp_path / "labels.csv").read_bytes() == b"file_name,label\npool/a.jpg,cat\n"


def test_a_link_is_followed_to_the_persons_file(tmp_path: Path):
    (tmp_path / "cloud").mkdir()
    (tmp_path / "cloud/labels.csv").write_text(TABLE)
    (tmp_path / "labels.csv").symlink_to("cloud/labels.csv")
    with editing(tmp_path) as file:
        file.answer("pool/a.jpg", "cat")
    assert (tmp_path / "labels.csv").is_symlink()
    assert "pool/a.jpg,cat\n" in (tmp_path / "cloud/labels.csv").read_text()


def test_a_fault_while_editing_writes_nothing(tmp_path: Path):
    (tmp_path / "labels.csv").write_text(TABLE)
    with pytest.raises(ZeroDivisionError), editing(tmp_path) as file:
        file.answer("pool/a.jpg", "cat")
        _ = 1 / 0
    assert (tmp_path / "labels.csv").read_text() == TABLE


def test_the_column_that_names_images_is_the_one_with_images_of_the_pool(tmp_path: Path):
    """Also where an answer is added; two that name different ones are refused."""
    numbered = {f"pool/{i}": i for i in range(1, 5)}
    path, find = tmp_path / "labels.csv", Finder(numbered)
    for text in (
        "nr,picture,label\n1,pool/3.png,a\n2,4.png,b\n",
        "id,path,label\n8,3.png,a\n9,pool/4.png,b\n",
    ):
        path.write_text(text)
        with editing(tmp_path, find) as file:
            file.answer("pool/1.png", "c", "me")
        _, *lines = path.read_text().splitlines()
        assert lines == [*(f"{line}," for line in text.splitlines()[1:]), ",pool/1.png,c,me"]
        assert read_answers([path], numbered, ()).labels == {3: "a", 4: "b", 1: "c"}
    for name in ("path", "picture"):
        path.write_text(f"id,{name},label\n1,x/3.png,a\n2,4.png,b\n")
        with user_error("labels.csv line 2", "'1' (id)", f"'x/3.png' ({name})", "file_name"):
            read_answers([path], numbered, ())


def label(folder: Path) -> None:
    with editing(folder) as file:
        file.answer("pool/a.jpg", "cat")


def test_who_waits_for_another_program_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("pt4al.person.labels.PATIENCE", 0.1)
    with ThreadPoolExecutor() as pool, locked(tmp_path):
        other = pool.submit(label, tmp_path)
        while not (told := capsys.readouterr().out):
            time.sleep(0.01)
        says(told, str(tmp_path / ".labels.lock"), "waiting")
        assert not other.done()
    assert (tmp_path / "labels.csv").read_text() == "file_name,label\npool/a.jpg,cat\n"


def test_paths_and_letters_of_other_disks(tmp_path: Path):
    """A path from above the folder of photographs, which lies in one called pool; and a Mac's umlauts."""
    path, keys = tmp_path / "labels.csv", {"pool/1": 0, "pool/Ka\u0308fer": 1, "pool/hotel/pool/1": 2}
    path.write_text(
        "file_name,label\n/srv/pool/photos/pool/1.jpg,cat\nK\u00e4fer.jpg,beetle\nhotel/pool/1.jpg,swim\n"
    )
    assert read_answers([path], keys, ()).labels == {0: "cat", 1: "beetle", 2: "swim"}
    file = LabelFile(path, Finder(keys))
    file.answer("pool/1.jpg", "dog")  # changes the row that there is
    file.answer("pool/Ka\u0308fer.jpg", "ant")
    file.write()
    assert read_answers([path], keys, ()).labels == {0: "dog", 1: "ant", 2: "swim"}


def test_classes_of_the_test_set_that_may_be_the_same_are_noted(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("file_name,label\n1.jpg,1.0\n")
    answers = read_answers([tmp_path / "labels.csv"], {"pool/1": 0}, (), others=["1", "2"])
    assert any("'1'" in note and "'1.0'" in note for note in answers.notes)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_told_with_what_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    (tmp_path / "pool").mkdir()

    def take_lock(path: Path, _: float) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("pt4al.person.labels.take_lock", take_lock)
    with (
        user_error(str(tmp_path), os.strerror(number), "to_label.csv", f"ln -s {tmp_path}/pool"),
        editing(tmp_path),
    ):
        pass


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every account can reach, as it cannot tmp_path."""
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other accounts")
def test_two_accounts_of_a_group_label_in_one_folder(shared: Path):
    folder = shared / "photos"
    folder.mkdir()
    os.chown(folder, 1001, 2000)
    folder.chmod(0o2775)
    (folder / "labels.csv").write_text("file_name,label\n")
    (folder / "labels.csv").chmod(0o664)
    LabelFile(folder / "labels.csv")  # loads what they may not read where Python lies

    def labels_as(uid: int, file: str) -> None:
        if not (pid := os.fork()):
            status = 1
            try:
                os.setgroups([2000])
                os.setgid(uid)
                os.setuid(uid)
                os.umask(0o022)
                with editing(folder) as table:
                    table.answer(file, "cat")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0

    for uid, file in ((1001, "pool/a.jpg"), (1002, "pool/b.jpg"), (1001, "pool/c.jpg")):
        labels_as(uid, file)
        assert (folder / "labels.csv").stat().st_uid == uid
    assert (folder / "labels.csv").stat().st_mode & 0o777 == 0o664
    assert len((folder / "labels.csv").read_text().splitlines()) == 4


FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


@given(
    st.lists(st.tuples(FIELDS, FIELDS), max_size=6),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from(["", "sep"]),
)
def test_every_field_of_every_line_survives_an_answer(
    tmp_path_factory: pytest.TempPathFactory,
    fields: list[tuple[str, str]], delimiter: str, end: str, mark: bool, first: str,
):  # fmt: skip
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["note", "file_name", "label"])
    writer.writerows([note, f"pool/{i}.jpg", label] for i, (note, label) in enumerate(fields))
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    data = (f"sep={delimiter}{end}" if first else "") + text.getvalue()
    path.write_bytes(data.encode("utf-8-sig" if mark else "utf-8"))
    before = LabelFile(path)
    before.answer("pool/more.jpg", "cat")
    before.write()
    after = LabelFile(path)
    lines = [[note, f"pool/{i}.jpg", label] for i, (note, label) in enumerate(fields)]
    assert [line for _, line in after.lines] == [*lines, ["", "pool/more.jpg", "cat"]]
    assert (after.delimiter, after.mark, after.end) == (delimiter, mark, end)


def test_images_that_share_their_last_folders_are_told_apart(tmp_path: Path):
    text = "file_name,label\npool/1/2/3/d.jpg,one\n9/2/3/d.jpg,nine\n"
    assert labels_in(tmp_path, text) == {POOL[4]: "one", POOL[5]: "nine"}
    file = LabelFile(tmp_path / "labels.csv")
    file.answer(POOL[5], "other")
    file.write()
    assert read_answers([file.path], POSITIONS, ()).labels == {4: "one", 5: "other"}


def test_a_name_with_a_comma_or_a_line_end_in_it_is_quoted(tmp_path: Path):
    text = 'file_name,label\n"pool/ä, ö.jpg","cat, tabby"\n"pool/a\n.jpg",cat\npool/b.jpg,"dog\n"\n'
    answers = answers_in(tmp_path, text)
    assert answers.labels == {3: "cat, tabby", 1: "dog"}
    (note,) = answers.notes
    says(note, "1 row", "labels.csv line 3")  # where it begins
    assert "\n" not in note


def test_a_note_steers_no_terminal(tmp_path: Path):
    (note,) = answers_in(tmp_path, "file_name,label\npool/\x1b[2J\x07.jpg,cat\n").notes
    assert note.isprintable() and "pool/?[2J?.jpg" in note


@pytest.mark.parametrize(
    "name",
    [
        "\u06af\u0631\u0628\u0647\u200c\u0647\u0627",
        "子\u3000猫",
        "👩\u200d🔬",
        "œil «x»",
        "a/b",
        "=1+1",
        "'",
    ],
)
def test_names_of_classes_in_other_scripts(tmp_path: Path, name: str):
    (tmp_path / "classes.txt").write_text(f"{name}\nother\n")
    assert read_classes(tmp_path) == [name, "other"]
    assert labels_in(tmp_path, f"file_name,label\npool/a.jpg,{name}\n", (name,)) == {POOL[0]: name}


def test_an_umlaut_is_one_class_however_it_is_spelled(tmp_path: Path):
    composed, apart = "K\u00e4fer", "Ka\u0308fer"
    (tmp_path / "classes.txt").write_text(f"{apart}\nother\n")
    assert read_classes(tmp_path) == [composed, "other"]
    text = f"file_name,label,annotator\na,{composed},{apart}\na,{apart},{composed}\n"
    assert labels_in(tmp_path, text, (composed,)) == {POOL[0]: composed}
    add_class(tmp_path, composed)
    assert read_classes(tmp_path) == [composed, "other"]


def test_100_000_rows_take_seconds(tmp_path: Path):
    n, began = 100_000, time.process_time()
    positions = {by_path(f"pool/{i}.jpg"): i for i in range(n)}
    classes = [f"class {i}" for i in range(1000)]
    with editing(tmp_path) as file:
        for i in range(n):
            file.answer(f"pool/{i}.jpg", classes[i % 1000], "me" if i % 2 else "")
        for i in range(0, n, 2):
            file.answer(f"pool/{i}", classes[(i + 1) % 1000])
    answers = read_answers([tmp_path / "labels.csv"], positions, classes)
    assert answers.labels == {i: classes[(i + 1 - i % 2) % 1000] for i in range(n)}
    assert time.process_time() - began < 30  # of this process; quadratic: hours


# --- who says so


def test_the_row_that_names_nobody_decides_and_others_must_agree(tmp_path: Path):
    text = (
        "file_name,label,annotator\n"
        "a,cat,anne\na,dog,ben\na,bird,\n"  # decided
        "b,cat,anne\nb,cat,ben\n"  # agreed
        "sub/c,cat,anne\nsub/c,?,ben\n"  # not agreed
    )
    answers = answers_in(tmp_path, text)
    assert answers.labels == {0: "bird", 1: "cat"}
    assert answers.disagreements == [["pool/sub/c", "cat", "anne"], ["pool/sub/c", "?", "ben"]]
    (note,) = answers.notes
    says(note, "anne", "ben", " 1 of 3 ", "kappa 0.00")


def test_of_many_annotators_those_who_share_the_most_images_are_told(tmp_path: Path):
    """500 annotators of 3 images each; the first three share these, and many share one."""
    images = [f"pool/{i}.png" for i in range(500)]
    rows = [
        (images[j if i < 3 else (i + j * j) % 500], f"p{i:03}", "ab"[(i + j) % 2])
        for i in range(500)
        for j in range(3)
    ]
    path = tmp_path / "labels.csv"
    path.write_text("file_name,annotator,label\n" + "".join(",".join(row) + "\n" for row in rows))
    began = time.process_time()
    *first, last = read_answers([path], {by_path(x): i for i, x in enumerate(images)}, ()).notes
    assert time.process_time() - began < 10  # of this process; each pair by itself: more than a minute
    assert len(first) == 5
    says(first[0], "p000 and p001", " 0 of 3 ", "kappa -0.80")
    says(first[1], "p000 and p002", " 3 of 3 ", "kappa 1.00")
    pairs = {(a, b) for image, a, _ in rows for other, b, _ in rows if image == other and a < b}
    assert int(last.split()[0]) == len(pairs) - 5 > 1000


@pytest.mark.parametrize("who", ["", "anne"])
@pytest.mark.parametrize("order", [("labels.csv", "to_label.csv"), ("to_label.csv", "labels.csv")])
def test_a_class_counts_before_a_doubt_of_the_same_person(tmp_path: Path, who: str, order: tuple[str, str]):
    head = "file_name,label,annotator\n"
    (tmp_path / "labels.csv").write_text(f"{head}a,cat,{who}\nb,?,{who}\nb,dog,{who}\n")
    (tmp_path / "to_label.csv").write_text(f"{head}a.jpg,?,{who}\na,?,ben\nb,?,{who}\n")
    answers = read_answers([tmp_path / name for name in order], POSITIONS, ())
    assert answers.labels == ({1: "dog"} if who else {0: "cat", 1: "dog"})
    disputed = {(label, name) for _, label, name in answers.disagreements}
    assert disputed == ({("cat", "anne"), ("?", "ben")} if who else set())  # nobody decides
    (tmp_path / "to_label.csv").write_text(f"{head}a,?,{who}\na,bird,{who}\n")
    with user_error("to_label.csv", "a ", "'cat'", "'bird'"):
        read_answers([tmp_path / name for name in order], POSITIONS, ())


def test_an_annotator_gets_a_column_and_rows_of_his_own(tmp_path: Path):
    (tmp_path / "labels.csv").write_text(TABLE)
    with editing(tmp_path) as file:
        file.answer("pool/a.jpg", "002", "anne")
        file.answer("pool/a.jpg", "003", " anne ")
        file.answer("pool/b.jpg", "")
    assert (tmp_path / "labels.csv").read_text() == (
        "file_name,label,annotator\npool/a.jpg,001,\npool/b.jpg,,\npool/sub/c.jpg,None,\npool/a.jpg,003,anne\n"
    )


def test_unsure_is_a_label_and_empty_is_none(tmp_path: Path):
    assert labels_in(tmp_path, "file_name,label\na,?\nb,\n", ("cat",)) == {POOL[0]: UNSURE}


def test_a_class_beside_a_question_mark_is_said(tmp_path: Path):
    (note,) = answers_in(tmp_path, "file_name,label\na,?\nb,?\na,cat\n").notes
    says(note, "`?`", " 1")


TWINS = [
    ("Cat", "c at"),
    ("1", "1.0"),
    ("01", "1"),
    ("1,0", "01"),
    ("1.00", "1."),
    ("-0", "-0.0"),
    ("K1", "k 1"),
]


@pytest.mark.parametrize("one, two", TWINS)
def test_two_classes_that_may_be_one_are_said(tmp_path: Path, one: str, two: str):
    """And are still two; also where annotators write them differently, and disagree by that alone."""
    table = "file_name;label;annotator\n"
    answers = answers_in(tmp_path, f"{table}a;{one};\nb;{two};\nsub/c;{one};\n")
    (note,) = answers.notes
    says(note, f"'{one}'", f"'{two}'")
    assert ("pandas" in note) == (one != "Cat" and one != "K1")
    assert answers.labels == {0: one, 1: two, 2: one}
    *_, note = answers_in(tmp_path, f"{table}a;{one};anne\na;{two};ben\n").notes
    says(note, f"'{one}'", f"'{two}'")


@pytest.mark.parametrize("one, two", [("1", "10"), ("0.1", "01"), ("1", "1a"), ("-1", "1"), ("1.0.0", "1.0")])
def test_classes_that_are_two_are_left_alone(tmp_path: Path, one: str, two: str):
    assert answers_in(tmp_path, f"file_name,label\na,{one}\nb,{two}\n").notes == []


def test_twins_are_counted(tmp_path: Path):
    (note,) = answers_in(tmp_path, "file_name,label\na,0\nb,0.0\nsub/c,1\n1/2/3/d,1.0\n").notes
    says(note, "'0'", "'0.0'", " 1 more ", "dtype=str")


# --- what is refused

BAD: list[tuple[str | bytes, tuple[str, ...]]] = [
    ("", ("line 1", "column file_name", "nothing")),
    ("\n\n", ("column file_name", "nothing")),
    ("pool/a.jpg,cat\n", ("column file_name", "pool/a.jpg, cat")),
    ("Picture,Class\na,b\n", ("column file_name", "Picture, Class")),
    ("file_name,class\na,b\n", ("column label", "file_name, class")),
    ("file_name\na\n", ("column label", "file_name")),
    ("file_name|label\na|b\n", ("column file_name", "file_name|label")),
    ('"file_name,label"\n"a,b"\n', ("line 1", "'file_name,label'", '"CSV UTF-8"')),
    ("file_name,label;\r\npool/a.jpg,;cat\r\n", ("line 1", "'label;'", '"CSV UTF-8"')),
    ("file_name,label;;\r\npool/a.jpg,;cat;\r\n", ("line 1", "'label;;'", '"CSV UTF-8"')),
    ("file_name,label,Label\na,b,c\n", ("two columns", "label")),
    ("file_name,File_Name,label\na,b,c\n", ("two columns", "file_name")),
    ("file_name,label,annotator,annotator\na,b,c,d\n", ("two columns", "annotator")),
    ("file_name,label\npool/ä, ö.jpg,cat\n", ("line 2", " 3 fields", "header 2", "comma")),
    ("file_name,label\npool/a.jpg,cat\npool/b.jpg;dog\n", ("line 3", " 1 fields", "header 2")),
    ("file_name,label\npool/a.jpg\tcat\n", ("line 2", " 1 fields", "header 2")),
    ('file_name,label\na,"cat\nb,dog\nsub/c,dog\n', ("line 2", "CSV: unexpected end of data")),
    ('file_name,label\na,cat\nb,"dog\nsub/c,"bird"\n', ("line 3", "CSV: ',' expected after '\"'")),
    ('file_name,label\na,"' + "x\n" * 100_000, ("line 2", "CSV: field larger than field limit")),
    (TABLE.encode("utf-16"), ("line 1", '"CSV UTF-8"')),
    (TABLE.encode("utf-16-le"), ("zero bytes", '"CSV UTF-8"')),
    (TABLE.encode("utf-32"), ("line 1", "UTF-8")),
    (TABLE.encode() + b"\0" * 512, ("zero bytes",)),
    ("file_name,label\na,cat\nb,häßlich\n".encode("cp1252"), ("line 3", "UTF-8")),
    ("file_name,label\na,cat\na.JPG,dog\n", ("line 3", "a.JPG", "'cat'", "'dog'")),
    ("file_name,label,annotator\na,cat,me\na,?,me\na,dog,me\n", ("line 4", "a ", "'cat'", "'me'")),
    ("file_name,label\na,ca\x07t\n", ("line 2", "'ca\\x07t'", " 200 ")),
    ('file_name,label\na,"ca\nt"\n', ("line 2", "'ca\\nt'", "class")),
    ("file_name,label\na,cat\u202egod\n", ("line 2", "class")),
    ("file_name,label\na," + "x" * 201 + "\n", ("line 2", "class", " 200 ")),
]


@pytest.mark.parametrize("text, parts", BAD, ids=range(len(BAD)))
def test_a_bad_labels_csv_is_refused_in_one_line(tmp_path: Path, text: str | bytes, parts: tuple[str, ...]):
    with user_error(str(tmp_path / "labels.csv"), *parts):
        answers_in(tmp_path, text)


def test_a_label_that_is_no_class_is_named_with_the_likely_one(tmp_path: Path):
    with user_error("line 3", "'catt'", "classes.txt", "'cat'?"):
        answers_in(tmp_path, "file_name,label\na,cat\nb,catt\n", ("cat", "dog"))
    with user_error("line 2", "'1.0'", "'1'?"):
        answers_in(tmp_path, "file_name,label\na,1.0\n", ("1", "2"))
    with pytest.raises(UserError, match=r"line 2: 'x' [^?]+classes.txt$"):
        answers_in(tmp_path, "file_name,label\na,x\n", ("cat", "dog"))


def test_a_folder_or_nothing_is_no_label_file(tmp_path: Path):
    (tmp_path / "labels.csv").mkdir()
    with user_error(str(tmp_path / "labels.csv")):
        read_answers([tmp_path / "labels.csv"], POSITIONS, ())
    with user_error(str(tmp_path / "labels.csv")), editing(tmp_path):
        pass
    assert read_answers([tmp_path / "none.csv"], POSITIONS, ()) == Answers()


ANSWERS: list[tuple[str, tuple[str, ...]]] = [
    ("class", ("pool/a.jpg", "ca\nt")),
    ("class", ("pool/a.jpg", "x" * 201)),
    ("annotator", ("pool/a.jpg", "cat", "an\nne")),
    ("UTF-8", ("pool/gr\udcfcn.jpg", "cat")),
    ("class", ("pool/a.jpg", "gr\udcfcn")),
]


@pytest.mark.parametrize("part, answer", ANSWERS)
def test_an_answer_that_could_not_be_read_back_is_refused(tmp_path: Path, part: str, answer: tuple[str, ...]):
    (tmp_path / "labels.csv").write_text(TABLE)
    with user_error(part), editing(tmp_path) as file:
        file.answer(*answer)
    assert (tmp_path / "labels.csv").read_text() == TABLE


# --- classes.txt


def test_classes_keep_the_order_of_their_lines(tmp_path: Path):
    assert read_classes(tmp_path) == []
    for text in ("10\n9\n001\n", "\ufeff10\r\n 9 \r\n\r\n001", "10\r9\r001\r"):
        (tmp_path / "classes.txt").write_bytes(text.encode())
        assert read_classes(tmp_path) == ["10", "9", "001"]


BAD_CLASSES: list[tuple[str | bytes, str]] = [
    ("", " 0 classes"),
    ("\n \n", " 0 classes"),
    ("cat\n", " 1 classes"),
    ("cat\ndog\n cat\n", "'cat' twice"),
    ("cat\n?\n", "'?'"),
    ("cat\nd\x1b[0mog\n", "class"),
    ("x" * 201 + "\ncat\n", "class"),
    ("cat\nhäßlich\n".encode("latin-1"), "line 2"),
    ("cat\ndog\n".encode("utf-16-le"), "zero bytes"),
    ("cat\ndog\n".encode("utf-16"), "line 1"),
]


@pytest.mark.parametrize("text, part", BAD_CLASSES, ids=range(len(BAD_CLASSES)))
@pytest.mark.parametrize("use", [read_classes, lambda folder: add_class(folder, "new")], ids=["read", "add"])
def test_a_bad_classes_txt_is_refused_or_added_to(
    tmp_path: Path, text: str | bytes, part: str, use: Callable[[Path], object]
):
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "classes.txt").write_bytes(data)
    if use is read_classes or isinstance(text, bytes):
        with user_error("classes.txt", part, *(["UTF-8"] if isinstance(text, bytes) else [])):
            use(tmp_path)
        assert (tmp_path / "classes.txt").read_bytes() == data
    else:  # the person may be writing it; nothing of it is lost
        use(tmp_path)
        assert (tmp_path / "classes.txt").read_text().startswith(text)


def test_a_class_is_added_once_below_the_others(tmp_path: Path):
    add_class(tmp_path, "cat")
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\n\r\n dog")  # by Notepad
    for name in ("cat", "dog", " bird ", "bird"):
        add_class(tmp_path, name)
    assert read_classes(tmp_path) == ["cat", "dog", "bird"]
    with user_error("'?'"):
        add_class(tmp_path, "?")


def test_classes_txt_may_be_no_folder(tmp_path: Path):
    (tmp_path / "classes.txt").mkdir()
    with user_error("classes.txt"):
        read_classes(tmp_path)


# --- where an image is


PATHS = [
    "x/y.jpg", "pool/x/y.jpg", "./pool/x/y.jpg", "./x/y.jpg", "/pool/x/y.jpg", "/a/b/pool/x/y.jpg",
    "C:\\pool\\x\\y.jpg", "x\\y.jpg", "photos/pool/x/y.jpg",
]  # fmt: skip


@pytest.mark.parametrize("text", PATHS)
def test_a_path_below_the_pool(text: str):
    assert below_pool(text) == "pool/x/y.jpg"
