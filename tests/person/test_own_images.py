"""A pool that nobody has labelled: the same scripts, and a scripted person who answers when a run waits."""

import csv
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photographs import OWN, RUN, TINY, answer, own, prepare, say, truth_of, until_done, waiting
from PIL import Image
from shell import RANDOM_BASELINE, content, rows, run, start_forked
from test_label_images import Typist, browser, served  # noqa: F401, two are fixtures

from config import Config
from loader import load_images
from pt4al.base.files import load_checkpoint
from pt4al.data.ids import by_path
from pt4al.person.answers import doubtful
from pt4al.person.labels import LabelFile
from pt4al.run.state import CycleLabels
from pt4al.run.tables import wilson
from pt4al.train.network import carry_over, fresh_network

KNOWN = ["--dataset", "folder", "--data-dir", "known", "--experiment", "known"]


@pytest.fixture
def work(photos: Path, tmp_path: Path) -> Path:
    """A folder with photographs, and batches of them, in which a run has not begun."""
    folder = tmp_path / "work"
    shutil.copytree(photos, folder, ignore=shutil.ignore_patterns("known"))
    (folder / "known").symlink_to(photos / "known")
    return folder


@pytest.fixture
def untested(work: Path) -> Path:
    shutil.rmtree(work / "photos/test")
    return work


# --- the proof


@pytest.mark.slow
def test_a_person_who_tells_the_truth_gives_the_simulated_run(work: Path):
    """Ten stops, with kills between: the same picks, weights and tables, bit for bit."""
    flags = ["--num-batches", "10", "--cycles", "10", "--labels-per-cycle", "6"]
    for script in ("rotation.py", "make_batches.py", "main.py"):
        run(work, script, *KNOWN, *TINY, *flags)
    for script in ("rotation.py", "make_batches.py"):
        run(work, script, *OWN, *TINY, *flags)
    source, kills = random.Random(5), 0
    for cycle in range(10):
        for _ in range(2):
            kills += killed(work, [*OWN, *TINY, *flags], source.uniform(0.2, 1.5))
        done = run(work, "main.py", *OWN, *TINY, *flags, status=3)
        assert f"cycle {cycle} waits for 6 of 6 labels: {RUN}/to_label.csv" in done.stdout
        if cycle % 2:
            answer(work)
        else:  # in the file itself
            path, truth = work / RUN / "to_label.csv", truth_of(work)
            table = [[row.file, row.label or truth[row.file]] for row in LabelFile(path).rows()]
            path.write_text("file_name;label\r\n" + "".join(f"{a};{b}\r\n" for a, b in table))
    run(work, "main.py", *OWN, *TINY, *flags)
    assert kills >= 5
    names = list(truth_of(work))
    simulated = Path("runs/known/main-confidence")
    for cycle in range(10):
        theirs = (work / simulated / f"labeled/cycle_{cycle}.txt").read_text().split()
        ours = (work / RUN / f"labeled/cycle_{cycle}.txt").read_text().split()
        assert ours == [names[int(Path(name).stem)] for name in theirs]
        a, b = (
            load_checkpoint(work / f"checkpoint/{experiment}/main-confidence/main_{cycle}.pth")
            for experiment in ("known", "own")
        )
        assert all(torch.equal(a["net"][name], b["net"][name]) for name in a["net"])
        assert (a["acc"], a["epoch"], a["classes"]) == (b["acc"], b["epoch"], b["classes"])
    for name in ("metrics.csv", "cycles.csv", "per_class.csv"):
        a, b = (
            [{k: v for k, v in row.items() if k != "seconds"} for row in rows(work / tables / name)]
            for tables in (simulated, RUN)
        )
        assert a == b and a
    a, b = (
        load_checkpoint(work / f"checkpoint/{experiment}/main-confidence/last.pth")
        for experiment in ("known", "own")
    )
    assert all(torch.equal(x, y) for x, y in zip(a["momentum"], b["momentum"], strict=True))
    losses = [(work / f"loss/{x}/rotation_loss.txt").read_text().split() for x in ("known", "own")]
    assert [x.split("_")[0] for x in losses[0]] == [x.split("_")[0] for x in losses[1]]
    predictions = rows(work / RUN / "predictions.csv")
    assert [row["file_name"] for row in predictions] == names
    assert all(0 < float(row["confidence"]) <= 1 for row in predictions)


def by_label_studio(folder: Path) -> None:
    """Export the tasks of a run, answered, with the columns of Label Studio's own CSV."""
    truth, stored = truth_of(folder), Path(__file__).parent / "label_studio/choices.csv"
    with stored.open(newline="") as file:
        header = next(csv.reader(file))
    tasks = json.loads((folder / RUN / "to_label.json").read_text())
    with (folder / "photos/labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="1")
        writer.writeheader()
        for task in tasks:
            writer.writerow({**task["data"], "label": truth[task["data"]["file_name"]]})


def by_folders(folder: Path) -> None:
    """Sort copies of the images into class folders, and import these."""
    truth = truth_of(folder)
    for name in waiting(folder):
        place = folder / "sorted" / truth[name]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "photos" / name, place)
    run(folder, "utils/convert_labels.py", "import", "sorted", "--data-dir", "photos")


def by_keys(folder: Path, start: Callable, window: Any) -> None:
    """Press the key of each image's class in the browser."""
    (folder / "photos/classes.txt").write_text("".join(f"{i}\n" for i in range(10)))
    truth, asked = truth_of(folder), waiting(folder)
    _, address = start(RUN)
    page = Typist(window, address)
    for name in asked:
        page.at(name)
        page.press(truth[name])  # a class that is called 3 has the key 3
    page.until("#stage", f"All {len(asked)} images have an answer")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["label studio", "folders", "keys"])
def test_every_way_of_labelling_gives_the_same_run(way: str, work: Path, request: pytest.FixtureRequest):
    prepare(work)
    flags = ["--cycles", "2", "--labels-per-cycle", "10"]
    own(work, "main.py", *flags, status=3)
    shutil.copytree(work, work.parent / "plain", symlinks=True)
    answer(work.parent / "plain")
    if way == "label studio":
        by_label_studio(work)
    elif way == "folders":
        by_folders(work)
    else:
        request.getfixturevalue("monkeypatch").chdir(work)
        by_keys(work, request.getfixturevalue("served"), request.getfixturevalue("browser"))
    weights = []
    truth = truth_of(work)
    if way != "label studio":
        assert {x["file_name"]: x["label"] for x in rows(work / "photos/labels.csv")}.items() <= truth.items()
    for folder in (work, work.parent / "plain"):
        own(folder, "main.py", *flags, status=3)
        weights.append(load_checkpoint(folder / "checkpoint/own/main-confidence/main_0.pth")["net"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert waiting(work) == waiting(work.parent / "plain")


def killed(folder: Path, flags: list[str], after: float) -> int:
    """Start main.py and kill it; 1 where it was still at work."""
    process = start_forked(folder, "main.py", tuple(flags), {}, folder / ".out", folder / ".err")
    process.join(after)
    alive = process.exitcode is None
    process.kill()
    process.join()
    assert alive or process.exitcode in (0, 3), (folder / ".err").read_text()
    return int(alive)


# --- the loop


def test_a_run_asks_waits_and_goes_on(work: Path):
    prepare(work)
    flags = ["--cycles", "2", "--labels-per-cycle", "10"]
    done = own(work, "main.py", *flags, status=3)
    assert done.stderr == "" and "cycle 0 waits for 10 of 10 labels" in done.stdout
    asked = waiting(work)
    assert asked == (work / RUN / "labeled/cycle_0.txt").read_text().split()
    say(work, {asked[0]: "0", asked[1]: "?", "pool/00007.png": "0"})
    before = (work / "photos/labels.csv").read_bytes()
    done = own(work, "main.py", *flags, status=3)
    assert "cycle 0 waits for 8 of 10 labels" in done.stdout and waiting(work) == asked[2:]
    assert (work / "photos/labels.csv").read_bytes() == before
    answer(work)
    own(work, "main.py", *flags, status=3)
    second = waiting(work)
    assert len(second) == 10 and not {*second} & {*asked, "pool/00007.png"}
    answer(work)
    own(work, "main.py", *flags)
    # 9 of the first cycle are sure, one was given unasked
    table = rows(work / RUN / "answers.csv")
    assert [(x["asked"], x["labeled"], x["unsure"], x["unasked"]) for x in table] == [
        ("10", "10", "1", "1"),
        ("20", "20", "1", "1"),
    ]
    used = {row["file_name"] for row in rows(work / RUN / "labeled/cycle_1.csv")}
    assert used == {*asked, *second, "pool/00007.png"} - {asked[1]}
    assert [row["labels"] for row in rows(work / RUN / "cycles.csv")] == ["10", "20"]
    assert not (work / RUN / "to_label.csv").exists() and not (work / RUN / "to_label.json").exists()
    assert "is finished" in own(work, "main.py", *flags).stdout


def test_labels_are_asked_once_for_all_strategies_and_restarts(work: Path):
    prepare(work)
    flags = ["--cycles", "2", "--labels-per-cycle", "10"]
    until_done(work, *flags)
    labels = (work / "photos/labels.csv").read_bytes()
    other = Path("runs/own/main-random")
    own(work, "main.py", *flags, *RANDOM_BASELINE, status=3)
    known = {row["file_name"] for row in rows(work / "photos/labels.csv")}
    assert waiting(work, other) and not known & {*waiting(work, other)}
    until_done(work, *flags, *RANDOM_BASELINE, tables=other)
    # What the first run asked for is no gift to the second.
    assert [row["unasked"] for row in rows(work / other / "answers.csv")] == ["0", "0"]
    assert [row["labels"] for row in rows(work / other / "cycles.csv")] == ["10", "20"]
    before = (work / RUN / "predictions.csv").read_bytes()
    own(work, "main.py", *flags, "--restart")
    assert (work / RUN / "predictions.csv").read_bytes() == before
    assert (work / "photos/labels.csv").read_bytes().startswith(labels)


def test_restart_keeps_the_answers_in_to_label_csv(work: Path):
    prepare(work)
    flags = ["--cycles", "1", "--labels-per-cycle", "10"]
    own(work, "main.py", *flags, status=3)
    path, truth = work / RUN / "to_label.csv", truth_of(work)
    asked = waiting(work)
    table = [[name, truth[name] if i < 4 else ""] for i, name in enumerate(asked)]
    path.write_text("file_name,label\n" + "".join(f"{a},{b}\n" for a, b in table))
    own(work, "main.py", *flags, "--restart", status=3)
    assert waiting(work) == asked[4:]
    kept = {row["file_name"]: row["label"] for row in rows(path) if row["label"]}
    assert kept == {name: truth[name] for name in asked[:4]}
    answer(work)
    own(work, "main.py", *flags)
    assert {row["file_name"] for row in rows(path)} == {*asked[:4]}


def test_labels_that_change_while_a_cycle_trains_take_effect_at_the_next(work: Path):
    """A run killed in cycle 1 goes on with the labels that it began the cycle with."""
    prepare(work)
    flags = [
        "--cycles",
        "3",
        "--labels-per-cycle",
        "10",
        "--epochs",
        "30",
    ]
    own(work, "main.py", *flags, status=3)
    first = answer(work)
    own(work, "main.py", *flags, status=3)
    answer(work)
    shutil.copytree(work, work.parent / "calm", symlinks=True)
    process = start_forked(
        work,
        "main.py",
        (*OWN, *TINY, "--num-batches", "5", *flags),
        {},
        work / ".out",
        work / ".err",
    )
    deadline = time.monotonic() + 60
    while (
        "cycle 1  labels 20  epoch 3" not in (work / ".out").read_text() if (work / ".out").exists() else True
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    path = work / "photos/labels.csv"
    text, truth = path.read_text(), truth_of(work)
    path.write_text(
        text.replace(f"{first[0]},{truth[first[0]]}\n", f"{first[0]},{9 - int(truth[first[0]])}\n")
    )
    assert path.read_text() != text
    own(work, "main.py", *flags, status=3)
    own(work.parent / "calm", "main.py", *flags, status=3)
    a, b = (
        load_checkpoint(folder / "checkpoint/own/main-confidence/main_1.pth")["net"]
        for folder in (work, work.parent / "calm")
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
    answer(work)
    done = own(work, "main.py", *flags)
    assert "1 labels of earlier cycles changed: used from cycle 2 on" in done.stdout
    changed = [
        {x["file_name"]: x["label"] for x in rows(work / RUN / f"labeled/cycle_{i}.csv")} for i in (1, 2)
    ]
    assert [x[first[0]] for x in changed] == [truth[first[0]], str(9 - int(truth[first[0]]))]
    assert [row["changed"] for row in rows(work / RUN / "answers.csv")] == ["0", "0", "1"]


def test_cold_start_and_whole_dataset(work: Path):
    prepare(work)
    cold = Path("runs/own/cold-start-interval")
    own(work, "main_pt4al.py", "--labels-per-cycle", "12", status=3)
    assert len(answer(work, cold)) == 12
    own(work, "main_pt4al.py", "--labels-per-cycle", "12")
    say(work, {"pool/00003.png": "0", "pool/00005.png": "?"})
    done = own(work, "whole_dataset.py")
    assert ": 13 labels" in done.stdout
    assert len(rows(work / "runs/own/whole-dataset/predictions.csv")) == 300
    say(work, {"pool/00004.png": "0"})
    assert "is finished" in own(work, "whole_dataset.py").stdout


@pytest.mark.slow
def test_two_processes_wait_and_go_on_together(work: Path):
    prepare(work)
    flags = [*OWN, *TINY, "--num-batches", "5", "--cycles", "2", "--labels-per-cycle", "10"]
    for cycle in range(2):  # torchrun turns status 3 into 1
        done = run(work, "main.py", *flags, processes=2, status=1)
        assert done.stdout.count(f"cycle {cycle} waits for 10 of 10 labels") == 1
        answer(work)
    run(work, "main.py", *flags, processes=2)
    assert len(rows(work / RUN / "predictions.csv")) == 300


def test_without_any_label_the_whole_dataset_is_refused(work: Path):
    assert "no image has a label" in own(work, "whole_dataset.py", status=2).stderr


# --- what other runs and mistakes must not change


def used(folder: Path, cycle: int) -> dict[str, str]:
    return {x["file_name"]: x["label"] for x in rows(folder / RUN / f"labeled/cycle_{cycle}.csv")}


def test_a_gift_is_not_taken_back_when_another_run_asks_for_it(work: Path):
    prepare(work)
    flags = ["--cycles", "2", "--labels-per-cycle", "10"]
    truth = truth_of(work)
    gifts = dict(list(truth.items())[::15])
    say(work, gifts)
    own(work, "main.py", *flags, status=3)
    answer(work)
    own(work, "main.py", *flags, status=3)
    assert gifts.items() <= used(work, 0).items()
    other = work / "runs/own/other"
    other.mkdir()
    (other / "asked.txt").write_text("".join(f"{name}\n" for name in truth))
    shutil.copy(work / RUN / "config.json", other)
    for odd in (
        "[]",
        "null",
        '{"other_parameters": null}',
        "{",
        '{"inputs": {}, "other_parameters": {"data_dir": "\\u0000"}}',
    ):
        folder = work / f"runs/own/odd {len(odd)}"
        folder.mkdir()
        (folder / "asked.txt").write_text("".join(f"{name}\n" for name in truth))
        (folder / "config.json").write_text(odd)
    answer(work)
    done = own(work, "main.py", *flags)
    assert gifts.items() <= used(work, 1).items() and "changed" not in done.stdout


def test_the_tables_are_whole_while_a_run_waits(work: Path):
    prepare(work)
    flags = ["--cycles", "2", "--labels-per-cycle", "10"]
    own(work, "main.py", *flags, status=3)
    answer(work)
    own(work, "main.py", *flags, status=3)
    assert [row["labels"] for row in rows(work / RUN / "cycles.csv")] == ["10"]
    assert rows(work / RUN / "answers.csv")[0]["accuracy_low"] != ""
    assert len(rows(work / RUN / "per_class.csv")) == 10
    before = content(work)
    own(work, "main.py", *flags, status=3)
    assert content(work) == before


def test_answers_are_taken_once(work: Path):
    """Killed in the first epoch of a cycle, it trains with the labels that it began with."""
    prepare(work)
    flags = [
        "--cycles",
        "1",
        "--labels-per-cycle",
        "10",
        "--epochs",
        "3000",
    ]
    own(work, "main.py", *flags, status=3)
    asked, truth = answer(work), truth_of(work)
    process = start_forked(
        work,
        "tests/saving_late.py",
        (*OWN, *TINY, "--num-batches", "5", *flags),
        {},
        work / ".out",
        work / ".err",
    )
    deadline = time.monotonic() + 60
    while not (work / ".out").exists() or "epoch 1/3000" not in (work / ".out").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
    path = work / "photos/labels.csv"
    path.write_text(path.read_text().replace(f"{asked[0]},{truth[asked[0]]}\n", f"{asked[0]},9\n"))
    again = start_forked(
        work,
        "tests/saving_late.py",
        (*OWN, *TINY, "--num-batches", "5", *flags),
        {},
        work / ".out2",
        work / ".err",
    )
    while not (work / ".out2").exists() or "epoch 1/3000" not in (work / ".out2").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    again.kill()
    again.join()
    assert used(work, 0) == {name: truth[name] for name in asked}


def test_a_restart_with_a_mistake_in_a_label_file_deletes_nothing(work: Path):
    prepare(work)
    flags = ["--cycles", "1", "--labels-per-cycle", "10"]
    until_done(work, *flags)
    say(work, {"pool/00001.png": "3", "pool/00001.jpg": "4"})
    before = content(work)
    assert "has two labels" in own(work, "main.py", *flags, "--restart", status=2).stderr
    assert content(work) == before


def test_answers_to_a_list_of_other_images_are_set_aside(work: Path):
    prepare(work)
    flags = ["--cycles", "1", "--labels-per-cycle", "10"]
    own(work, "main.py", *flags, status=3)
    path, truth = work / RUN / "to_label.csv", truth_of(work)
    lines = [f"{name};{truth[name]};my note\r\n" for name in waiting(work)]
    path.write_text("file_name;label;notes\r\n" + "".join(lines), newline="")
    own(work, "main.py", *flags)
    kept = path.read_bytes()
    assert b";my note\r\n" in kept
    shutil.copytree(work / "photos", work / "other")
    for image in (work / "other/pool").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    done = own(work, "main.py", *flags, "--data-dir", "other", "--restart", status=3)
    assert "to_label_of_other_images.csv" in done.stdout and len(waiting(work)) == 10
    assert path.with_name("to_label_of_other_images.csv").read_bytes() == kept


def test_annotators_of_to_label_csv_keep_their_names(untested: Path):
    prepare(untested)
    flags = ["--cycles", "1", "--labels-per-cycle", "10"]
    own(untested, "main.py", *flags, status=3)
    asked, truth = waiting(untested), truth_of(untested)
    say(untested, {name: truth[name] for name in asked}, ("anna",))
    path = untested / RUN / "to_label.csv"
    path.write_text(f"file_name,label,annotator\n{asked[0]},cat,ben\n")
    for _ in range(2):
        assert "waits for 1 of 10" in own(untested, "main.py", *flags, status=3).stdout
        assert f"{asked[0]},cat,ben" in path.read_text()


def test_a_name_that_is_not_utf_8_is_refused_at_once(work: Path):
    prepare(work)
    pool = os.fsencode(work / "photos/pool")
    os.rename(pool + b"/00123.png", pool + b"/00123\xff.png")
    assert "is not UTF-8" in own(work, "main.py", "--cycles", "1", status=2).stderr


# --- a test set


def test_a_test_set_is_drawn_first_and_the_same_for_all(untested: Path):
    prepare(untested)
    flags = ["--cycles", "2", "--labels-per-cycle", "10", "--test-labels", "40"]
    done = own(untested, "main.py", *flags, status=3)
    assert "cycle 0 waits for 50 of 50 labels, 40 of them to test by" in done.stdout
    test = (untested / RUN / "labeled/test.txt").read_text().split()
    assert waiting(untested)[:40] == test and len({*waiting(untested)}) == 50
    until_done(untested, *flags)
    picks = {x for i in range(2) for x in (untested / RUN / f"labeled/cycle_{i}.txt").read_text().split()}
    assert not picks & {*test}
    for cycle, line in zip(
        rows(untested / RUN / "cycles.csv"), rows(untested / RUN / "answers.csv"), strict=True
    ):
        low, high = wilson(float(cycle["last_accuracy"]), 40)
        assert (float(line["accuracy_low"]), float(line["accuracy_high"])) == pytest.approx(
            (low, high), abs=1e-5
        )
        assert line["test_images"] == "40"
    other = Path("runs/own/main-random")
    own(untested, "main.py", *flags, *RANDOM_BASELINE, status=3)
    assert (untested / other / "labeled/test.txt").read_text().split() == test
    assert not {*waiting(untested, other)} & {*test}


def test_without_a_test_set_accuracies_stay_empty(untested: Path):
    prepare(untested)
    flags = ["--cycles", "2", "--labels-per-cycle", "10"]
    until_done(untested, *flags)
    for row in rows(untested / RUN / "metrics.csv"):
        assert row["test_accuracy"] == row["best_accuracy"] == row["test_loss"] == ""
    for row in rows(untested / RUN / "cycles.csv"):
        assert row["best_accuracy"] == row["best_epoch"] == row["last_accuracy"] == ""
    assert rows(untested / RUN / "answers.csv")[0]["accuracy_low"] == ""
    assert len(rows(untested / RUN / "predictions.csv")) == 300
    assert "select is best" in own(untested, "main.py", *flags, "--select", "best", status=2).stderr


def test_wilson_intervals():
    """Values of Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, n, low, high in (
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0, 16.11),
        (1, 29, 0.61, 17.18),
    ):
        assert wilson(100 * hits / n, n) == pytest.approx((low, high), abs=0.006)


# --- classes


def test_classes_may_appear_later(untested: Path):
    prepare(untested)
    flags = ["--cycles", "3", "--labels-per-cycle", "10", "--init", "warm"]
    for cycle in range(3):
        own(untested, "main.py", *flags, status=3)
        truth = truth_of(untested)
        # All are odd or even; from cycle 1 on a person tells the tens apart.
        say(
            untested,
            {name: truth[name] if cycle else str(int(truth[name]) % 2) for name in waiting(untested)},
        )
    own(untested, "main.py", *flags)
    classes = [
        load_checkpoint(untested / f"checkpoint/own/main-confidence/main_{i}.pth")["classes"]
        for i in range(3)
    ]
    assert classes[0] == ["0", "1"] and classes[1][:2] == ["0", "1"] and len(classes[1]) > 2
    assert classes[2][: len(classes[1])] == classes[1]


def test_rows_of_the_last_layer_are_carried_over_by_name():
    config = Config(width=8)
    old, new = (fresh_network(config, n, seed, torch.device("cpu")) for n, seed in ((2, 0), (3, 1)))
    fresh = new.linear.weight[1].clone()
    carry_over(old, ["cat", "dog"], new, ["dog", "eel", "cat"])
    assert torch.equal(new.linear.weight[0], old.linear.weight[1])
    assert torch.equal(new.linear.weight[2], old.linear.weight[0])
    assert torch.equal(new.linear.weight[1], fresh) and torch.equal(new.conv1.weight, old.conv1.weight)
    assert new.linear.bias[2] == old.linear.bias[0]


def test_one_class_is_no_problem_to_learn(untested: Path):
    prepare(untested)
    flags = ["--cycles", "1", "--labels-per-cycle", "10"]
    own(untested, "main.py", *flags, status=3)
    asked = waiting(untested)
    say(untested, dict.fromkeys(asked, "cat"))
    done = own(untested, "main.py", *flags, status=2)
    assert "all 10 labels are 'cat': a classifier needs 2 classes; add rows of other images" in done.stderr
    name = next(x for x in truth_of(untested) if x not in asked)
    say(untested, {name: "dog"})
    assert "cycle 0: 11 labels" in own(untested, "main.py", *flags).stdout


def test_classes_txt_gives_the_order_and_refuses_others(untested: Path):
    prepare(untested)
    order = list("9876543210")
    (untested / "photos/classes.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(order).encode())
    flags = ["--cycles", "1", "--labels-per-cycle", "10"]
    own(untested, "main.py", *flags, status=3)
    asked = waiting(untested)
    answer(untested, **{asked[3]: "33"})
    done = own(untested, "main.py", *flags, status=2)
    assert "labels.csv line 5: '33' is not in classes.txt (did you mean '3'?)" in done.stderr
    path = untested / "photos/labels.csv"
    path.write_text(path.read_text().replace(",33\r\n", ",3\r\n").replace(",33\n", ",3\n"))
    own(untested, "main.py", *flags)
    assert load_checkpoint(untested / "checkpoint/own/main-confidence/main_0.pth")["classes"] == order


# --- doubt


def test_a_class_that_comes_after_a_doubt_is_used(untested: Path):
    prepare(untested)
    flags = ["--cycles", "2", "--labels-per-cycle", "10"]
    own(untested, "main.py", *flags, status=3)
    asked, truth = waiting(untested), truth_of(untested)
    table = "".join(f"{name},{'?' if name == asked[0] else truth[name]}\n" for name in asked)
    (untested / RUN / "to_label.csv").write_text("file_name,label\n" + table)
    own(untested, "main.py", *flags, status=3)
    say(untested, {asked[0]: truth[asked[0]]})
    answer(untested)
    own(untested, "main.py", *flags)
    assert asked[0] not in used(untested, 0) and used(untested, 1)[asked[0]] == truth[asked[0]]
    assert [row["unsure"] for row in rows(untested / RUN / "answers.csv")] == ["1", "0"]


def test_two_annotators_who_disagree_are_waited_for(untested: Path):
    prepare(untested)
    flags = ["--cycles", "1", "--labels-per-cycle", "10"]
    own(untested, "main.py", *flags, status=3)
    asked, truth = waiting(untested), truth_of(untested)
    labels = {name: truth[name] for name in asked}
    say(untested, labels, ("anna",))
    say(untested, {**labels, asked[2]: "?", asked[5]: "cat"}, ("ben",))
    done = own(untested, "main.py", *flags, status=3)
    assert "annotators anna and ben agree on 8 of 10 images, kappa 0." in done.stdout
    assert "cycle 0 waits for 2 of 10 labels" in done.stdout
    table = rows(untested / RUN / "disagreements.csv")
    assert Counter(row["file_name"] for row in table) == {asked[2]: 2, asked[5]: 2}
    assert {row["annotator"] for row in table} == {"anna", "ben"}
    say(untested, {asked[2]: truth[asked[2]], asked[5]: truth[asked[5]]}, ("",))  # nobody decides
    own(untested, "main.py", *flags)
    assert not (untested / RUN / "disagreements.csv").exists()


def test_labels_that_look_wrong_are_named(work: Path):
    """A wrong label of the second cycle: the classifier of the first finds it unlikely."""
    prepare(work)
    flags = [
        "--cycles",
        "2",
        "--labels-per-cycle",
        "50",
        "--epochs",
        "30",
        "--min-epoch-images",
        "200",
    ]
    own(work, "main.py", *flags, status=3)
    answer(work)
    own(work, "main.py", *flags, status=3)
    asked, truth = waiting(work), truth_of(work)
    wrong = {name: str((int(truth[name]) + 5) % 10) for name in asked[-2:]}  # it is sure of these
    answer(work, **wrong)
    own(work, "main.py", *flags)
    table = rows(work / RUN / "review.csv")
    assert len(table) == 20 and {row["file_name"] for row in table[:6]} >= {*wrong}
    assert [float(x["probability"]) for x in table] == sorted(float(x["probability"]) for x in table)
    assert all(row["cycle"] == "1" for row in table)


def test_doubtful_labels_are_the_least_likely():
    none = torch.tensor([], dtype=torch.int64)
    taken = CycleLabels(
        ["a", "b", "new"], torch.tensor([4, 5, 6]), torch.tensor([0, 1, 2]), none, none, 0, 3, 0, 0, 0
    )
    logits = torch.tensor([[0.0, 2.0], [0.0, 1.0], [5.0, 0.0]])
    found = doubtful(taken, [4, 5, 6], logits, ["a", "b"], 3)
    assert [row[:4] for row in found] == [
        [3, 4, "a", "b"],
        [3, 5, "b", "b"],
    ]  # of a new class it knows nothing
    assert found[0][4] == pytest.approx(1 / (1 + np.exp(2)))


# --- the pool


def test_the_pool_is_read_at_any_depth_and_copies_once(untested: Path):
    pool, truth = untested / "photos/pool", truth_of(untested)
    names = sorted(truth)
    places = ["a/b/c/d", "a b/ü/#%&", "z", "x.png"]
    for i, name in enumerate(names[:40]):
        target = pool / places[i % 4] / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        (untested / "photos" / name).rename(target)
    (pool / "b").mkdir()
    for i in (50, 51, 52):
        shutil.copy(untested / "photos" / names[i], pool / "b" / f"copy {i}.png")
    (pool / "loop").symlink_to(pool)
    (pool / ".hidden").mkdir()
    (pool / "notes.txt").write_text("no image")
    config = Config(dataset="unlabeled", data_dir=str(untested / "photos"), img_size=16, test_labels=20)
    images, test = load_images(config, torch.device("cpu"))
    assert len(images) == 303 and len(test) == 0 and len(images.copies) == 3
    by_name = {Path(x).name: i for i, x in enumerate(images.ids)}
    for i in (50, 51, 52):
        pair = {by_name[f"copy {i}.png"], by_name[Path(names[i]).name]}
        assert {max(pair)} == pair & {*images.copies} and images.copies[max(pair)] == min(pair)
    assert len({by_path(x) for x in images.ids}) == 303 and images.ids == sorted(images.ids)
    assert all(x.startswith("pool/") for x in images.ids)
    left = images.eligible(range(303))
    assert len(left) == 280 and not {*left} & ({*images.copies} | {*images.drawn})
    again, _ = load_images(config, torch.device("cpu"))
    assert again.drawn == images.drawn and again.fingerprint() == images.fingerprint()


BAD = {
    "no pool": (lambda d: shutil.rmtree(d / "pool"), "photos/pool is not a folder"),
    "an empty pool": (lambda d: [x.unlink() for x in (d / "pool").iterdir()], "holds 0 images"),
    "a broken image": (lambda d: (d / "pool/00003.png").write_bytes(b"no"), "1 of 300 images cannot be read"),
    "ids that clash": (
        lambda d: shutil.copy(d / "pool/00003.png", d / "pool/00003.bmp"),
        "differ in their ending only",
    ),
    "a name with a line end": (
        lambda d: (d / "pool/00003.png").rename(d / "pool/a\nb.png"),
        "has a line end",
    ),
    "a class of the test set": (lambda d: (d / "classes.txt").write_text("0\n1\n"), "test has a class '2'"),
    "one class": (lambda d: (d / "classes.txt").write_text("0\n"), "names 1 classes"),
    "a class twice": (lambda d: (d / "classes.txt").write_text("0\n1\n0\n"), "names '0' twice"),
    "? as a class": (lambda d: (d / "classes.txt").write_text("0\n?\n"), "'?' is no class"),
    "classes in UTF-16": (lambda d: (d / "classes.txt").write_text("0\n1\n", "utf-16"), "not UTF-8"),
    "no header": (lambda d: (d / "labels.csv").write_text("pool/00003.png,3\n"), "no column file_name"),
    "no column label": (lambda d: (d / "labels.csv").write_text("Image,Class\n"), "no column label"),
    "labels in UTF-16": (lambda d: (d / "labels.csv").write_text("file_name,label\n", "utf-16"), "not UTF-8"),
    "a folder as labels": (lambda d: (d / "labels.csv").mkdir(), "is no file"),
    "two labels": (
        lambda d: (d / "labels.csv").write_text("file_name,label\npool/00003.png,3\npool/00003.png,4\n"),
        "labels.csv line 3: pool/00003.png has two labels, '3'",
    ),
    "too many fields": (
        lambda d: (d / "labels.csv").write_text("file_name,label\npool/a,b.png,3\n"),
        "labels.csv line 2 has 3 fields",
    ),
    "an open quote": (
        lambda d: (d / "labels.csv").write_text('file_name,label\n"pool/00003.png,3\n'),
        "labels.csv line 2",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(work: Path, what: str):
    prepare(work)
    harm, said = BAD[what]
    harm(work / "photos")
    kept = {x: x.read_bytes() for x in (work / "photos").rglob("*") if x.is_file()}
    done = own(work, "main.py", "--cycles", "1", "--labels-per-cycle", "10", status=2)
    assert said in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert kept == {x: x.read_bytes() for x in (work / "photos").rglob("*") if x.is_file()}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--test-labels", "5"], "photos/test is there to test by"),
        (["--imbalance", "10"], "imbalance is 10.0"),
        (["--labels-per-cycle", "61"], "labels_per_cycle is 61 but a batch holds 60 images"),
    ],
)
def test_flags_that_make_no_sense_are_refused(work: Path, flags: list[str], said: str):
    prepare(work)
    done = own(work, "main.py", "--cycles", "1", *flags, status=2)
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_too_many_images_to_test_by(untested: Path):
    done = own(untested, "whole_dataset.py", "--test-labels", "300", status=2)
    assert "test_labels is 300 but the pool holds 300 different images" in done.stderr
    done = run(untested, "main.py", "digits", "--test-labels", "3", status=2)
    assert "it is for --dataset unlabeled" in done.stderr
