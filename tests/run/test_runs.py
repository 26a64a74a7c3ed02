"""Finished runs read again, and what two records differ in."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import HEADER, INPUTS, MADE_FROM, make_record, make_run

from pt4al.base.console import UserError
from pt4al.run.record import READABLE, VERSION
from pt4al.run.runs import (
    FIELDS,
    differing,
    made_otherwise,
    other_test_images,
    read_record,
    read_run,
    read_table,
)

# --- tables


def test_a_run_is_read(tmp_path: Path):
    run = read_run(make_run(tmp_path / "m", [50, 70.5], make_record(3)))
    assert run.labels.tolist() == [10, 20] and run.labels.dtype == np.int64 and run.seed == 3
    assert {kind: x.tolist() for kind, x in run.accuracy.items()} == {"best": [50, 70.5], "last": [49, 69.5]}
    assert read_run(make_run(tmp_path / "n", [50])).seed is None


def test_what_a_spreadsheet_saves_is_read(tmp_path: Path):
    path = make_run(tmp_path / "m", [50, 60]) / "cycles.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"cycle,", b"", 1).replace(b"\n", b"\r\n"))
    path.write_bytes(re.sub(rb"(?m)^\d,(?=\d\d,)", b"", path.read_bytes()))
    assert read_run(path.parent).accuracy["best"].tolist() == [50, 60]


@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"])
def test_what_a_spreadsheet_adds_is_read(tmp_path: Path, delimiter: bytes):
    """Another delimiter than the comma, and empty rows at the end."""
    path = make_run(tmp_path / "m", [50, 60]) / "cycles.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b",", delimiter) + delimiter * 5 + b"\n")
    assert read_run(path.parent).accuracy["best"].tolist() == [50, 60]
    path.write_bytes(path.read_bytes().replace(b"60", b'"60,5"'))
    with pytest.raises(UserError, match="cycles.csv line 3: best_accuracy is '60,5', not a number .*point"):
        read_run(path.parent)


def test_labels_that_an_annotator_took_back(tmp_path: Path):
    """Cycles that had more are no points of the curve; without an annotator the table is damaged."""
    folder = make_run(tmp_path / "m", [1, 2, 3])
    (folder / "cycles.csv").write_text((folder / "cycles.csv").read_text().replace("1,20,", "1,8,"))
    with pytest.raises(UserError, match="cycles.csv line 3: labels is '8'"):
        read_run(folder)
    (folder / "answers.csv").write_text("cycle,test_images\n0,50\n1,50\n2,40\n")
    run = read_run(folder)
    assert (run.labels.tolist(), run.accuracy["best"].tolist()) == ([8, 30], [2, 3])
    assert (run.test_images.tolist(), run.cycles) == ([50, 40], 3)


def test_a_cycle_that_found_all_labeled_already_is_one_point(tmp_path: Path):
    folder = make_run(tmp_path / "m", [1, 2])
    header, first, second = (folder / "cycles.csv").read_text().splitlines()
    again = first.replace("0,", "1,", 1).replace(",1,0,0,", ",3,0,2,")
    (folder / "cycles.csv").write_text("\n".join([header, first, again, second]) + "\n")
    run = read_run(folder)
    assert run.labels.tolist() == [10, 20] and run.accuracy["best"].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("table", "where", "what"),
    [
        ("", "", "missing or empty"),
        (HEADER, "", "missing or empty"),
        ("\udcff\udcfe", "", "missing or empty"),
        ("epoch,loss\n0,1\n", "", "no column 'labels'"),
        ("cycle,labels,best_accuracy\n0,10,50\n", "", "no column 'last_accuracy'"),
        (f"{HEADER}\n0,10,50,0,half,1\n", "line 2", "last_accuracy is 'half'"),
        (f"{HEADER}\n0,ten,50,0,49,1\n", "line 2", "labels is 'ten'"),
        (f"{HEADER}\n0,10,,,,1\n", "line 2", "best_accuracy is ''"),
        (f"{HEADER}\n0,10,nan,0,49,1\n", "line 2", "best_accuracy is 'nan'"),
        (f"{HEADER}\n0,10,50,0,101,1\n", "line 2", "last_accuracy is '101'"),
        (f"{HEADER}\n0,10,-1,0,1,1\n", "line 2", "best_accuracy is '-1'"),
        (f"{HEADER}\n0,10,50,0,49\n", "line 2", "more or fewer fields"),
        (f"{HEADER}\n0,10,50,0,49,1\n\n1,20,50,0,49,1,1\n", "line 4", "more or fewer fields"),
        (f"{HEADER}\n0,20,50,0,49,1\n1,10,50,0,49,1\n", "line 3", "labels is '10'"),
        (f"{HEADER}\n0,10.5,50,0,49,1\n", "line 2", "labels is '10.5'"),
        (f"{HEADER}\n0,nan,50,0,49,1\n", "line 2", "labels is 'nan'"),
        (f"{HEADER}\n0,inf,50,0,49,1\n", "line 2", "labels is 'inf'"),
        (f"{HEADER}\n0,-10,50,0,49,1\n", "line 2", "labels is '-10'"),
        (f"{HEADER}\n0,10,5\x000,0,49,1\n", "line 2", ""),
    ],
)
def test_foreign_tables_are_refused(tmp_path: Path, table: str, where: str, what: str):
    folder = make_run(tmp_path / "m", [1, 2])
    (folder / "cycles.csv").write_bytes(table.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as refusal:
        read_run(folder)
    assert f"{folder}/cycles.csv {where}" in str(refusal.value) and what in str(refusal.value)


def test_empty_fields_of_a_table_are_nan(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b\n1,\n,2\n")
    table = read_table(tmp_path / "a.csv")
    assert np.isnan(table.column("b")).tolist() == [True, False] and table.lines == [2, 3]
    assert read_table(tmp_path / "none.csv").rows == []


# --- records


def test_this_code_reads_the_records_that_it_writes():
    assert VERSION in READABLE


@pytest.mark.parametrize("version", READABLE)
def test_every_readable_version_is_read(tmp_path: Path, version: int):
    run = read_run(make_run(tmp_path / "m", [1], make_record(7, version=version)))
    assert run.seed == 7 and run.record["version"] == version


@pytest.mark.parametrize(
    "record", [make_record(version=x) for x in (1, max(READABLE) + 1, "2", None, [2])] + [{}, []]
)
def test_a_record_of_another_version_is_refused(tmp_path: Path, record: object):
    """Never pooled with seeds and settings unread, as it was while the version stood in two places."""
    folder = make_run(tmp_path / "m", [1], {})
    (folder / "config.json").write_text(json.dumps(record))
    version = record.get("version") if isinstance(record, dict) else None
    with pytest.raises(UserError, match=re.escape(f"{folder}/config.json is a record of version {version}")):
        read_run(folder)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", ""),
        ("[", ""),
        ("\udcff", ""),
        (json.dumps({"version": VERSION}), "script"),
        (json.dumps({**make_record(), "parameters": []}), "parameters"),
        (json.dumps({**make_record(), "inputs": None}), "inputs"),
        (json.dumps({**make_record(), "made_with": 1}), "made_with"),
        (json.dumps(make_record("0")), "seed"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, text: str, what: str):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=rf"{re.escape(str(path))} is damaged: .*{what}"):
        read_record(path)


# --- what two runs differ in


def pretext(data: str | None = None, **other: object) -> dict:
    """Batches by a pretext network that was trained with these parameters."""
    return {
        **MADE_FROM,
        **({"data": data} if data else {}),
        "pretext_made_from": {"rotation_epochs": 15, "lr": 0.1, "seed": 0, **other},
    }


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"parameters": {"epochs": 31}}, "epochs is 30 and 31"),
        ({"parameters": {"milestones": [20]}}, "milestones is absent and [20]"),
        ({"script": "main_pt4al.py"}, "script is main.py and main_pt4al.py"),
        ({"inputs": {"data": "d1"}}, "data is d0 and d1"),
        ({"inputs": {"test_data": "t1"}}, "test_data is t0 and t1"),
        ({"inputs": {"data": "d1"}, "parameters": {"imbalance": 1}}, "data is d0 and d1"),
        (
            {"inputs": {"batches_made_from": {**MADE_FROM, "sort": "shuffled"}}},
            "sort is numeric and shuffled",
        ),
        ({"inputs": {"batches_made_from": {**MADE_FROM, "num_batches": 5}}}, "num_batches is 10 and 5"),
        ({"inputs": {"batches_made_from": {**MADE_FROM, "losses": "l1"}}}, "losses is absent and l1"),
        ({"inputs": {"batches_made_from": None}}, "sort is numeric and absent"),
        ({"inputs": {"batches_made_from": pretext(data="d1")}}, "batches_made_from.data is absent and d1"),
        ({"inputs": {"batches_made_from": pretext(lr=0.001)}}, "pretext.lr is 0.1 and 0.001"),
        ({"inputs": {"pretext_made_from": {"rotation_epochs": 2}}}, "pretext.rotation_epochs is 15 and 2"),
    ],
)
def test_runs_that_are_not_seeds_of_one_method(other: dict, said: str):
    ours = make_record(0, inputs={"batches_made_from": pretext()})
    assert said in differing(ours, make_record(1, **other), of_one_method=True)


@pytest.mark.parametrize(
    ("shared", "other"),
    [
        ({}, {"made_with": {"torch": "2.4"}}),
        ({}, {"inputs": {"batches": "b1", "files": {"batch_0.txt": "f1"}}}),
        ({}, {"inputs": {"batches_made_from": {**MADE_FROM, "weights": "w1", "seed": 1}}}),
        ({"imbalance": 10}, {"inputs": {"data": "d1"}}),
        ({"test_labels": 50}, {"inputs": {"test_data": "t1"}}),
        ({}, {"parameters": {"precision": "bf16", "cycles": 3}}),
        ({}, {"inputs": {"batches_made_from": pretext(seed=1, precision="bf16")}}),
    ],
)
def test_what_follows_from_the_seed_or_the_machine_may_differ(shared: dict, other: dict):
    ours = make_record(0, parameters=shared, inputs={"batches_made_from": pretext()})
    theirs = make_record(1, **{**other, "parameters": {**shared, **other.get("parameters", {})}})
    assert differing(ours, theirs, of_one_method=True) == ""


def test_fields_that_are_gone_do_not_set_old_runs_apart():
    removed = {"compile", "sync_batchnorm", "checkpoint_every", "tensorboard", "never_there"} - FIELDS
    old = make_record(0, version=2, parameters=dict.fromkeys(removed, True))
    new = make_record(1, version=3)
    assert removed and differing(old, new, of_one_method=True) == "" == differing(new, old)
    other = make_record(1, version=3, parameters={"epochs": 31})
    assert differing(old, other, of_one_method=True) == "epochs is 30 and 31"


def test_what_a_method_has_no_use_for_is_no_difference():
    without = make_record()
    without["inputs"] = {k: v for k, v in INPUTS.items() if not k.startswith("batches")}
    lexicographic = {"batches_made_from": {**MADE_FROM, "sort": "lexicographic", "losses": "l1"}}
    with_losses, cold = make_record(inputs=lexicographic), make_record(script="main_pt4al.py")
    sort = "batches_made_from.sort is lexicographic and numeric"
    assert differing(with_losses, make_record()) == f"batches_made_from.losses is l1 and absent, {sort}"
    assert differing(without, make_record()) == "" == differing(with_losses, without)
    cold["parameters"] = {"seed": 0, "epochs": 5, "lr": 0.1}
    assert differing(cold, make_record()) == "epochs is 5 and 30"  # lr stands in one of two scripts' records


def test_images_read_in_two_ways_excuse_their_digests():
    bgr = make_record(parameters={"channel_order": "bgr"}, inputs={"data": "d1", "test_data": "t1"})
    assert differing(bgr, make_record()) == "channel_order is bgr and absent"
    assert not other_test_images(bgr, make_record())
    elsewhere = {"channel_order": "bgr", "dataset": "npz"}
    assert other_test_images(make_record(parameters=elsewhere, inputs={"test_data": "t1"}), make_record())


@pytest.mark.parametrize(
    ("parameters", "ours", "theirs", "expected"),
    [
        ({}, {}, {}, False),
        ({}, {"test_data": "a"}, {"test_data": "b"}, True),
        ({}, {"test_data": None}, {"test_data": "b"}, False),  # as far as the records tell
        ({"test_labels": 50}, {"test_data": "a"}, {"test_data": "b"}, False),  # drawn from one pool
        ({"test_labels": 50}, {"data": "a"}, {"data": "b"}, True),
    ],
)
def test_test_images_are_told_by_their_digests(parameters: dict, ours: dict, theirs: dict, expected: bool):
    records = [make_record(parameters=parameters, inputs=inputs) for inputs in (ours, theirs)]
    assert other_test_images(*records) is expected


def test_features_of_two_machines_are_compared_by_what_they_were_made_from():
    """Their last digits differ. Older records, and those of rows of another tool, do not know it."""

    def of(data: str, source: str = "") -> dict:
        images = {"images": {"data": f"p{source}", "test_data": f"t{source}"}} if source else {}
        return make_record(inputs={"data": data, "test_data": data, "features": "net", **images})

    here, there, others = of("a", "1"), of("b", "1"), of("c", "2")
    assert differing(here, there, of_one_method=True) == "" and not other_test_images(here, there)
    assert differing(here, others) == "data is p1 and p2, test_data is t1 and t2"
    assert other_test_images(here, others)
    older = of("d")
    assert differing(here, older) == "data is a and d, test_data is a and d"
    assert other_test_images(here, older) and other_test_images(older, of("e"))
    assert differing(older, of("d")) == "" and not other_test_images(older, of("d"))


def test_rows_of_other_networks_and_tools_are_compared_by_ids_and_labels():
    """Two that one tool made of the same images, and one of others; a network's, of these and those."""

    def of(values: str, names: str, features: str = "rows of another tool", **source: str) -> dict:
        images = {"names": {"data": f"n{names}", "test_data": f"m{names}"}, **source}
        inputs = {"data": values, "test_data": values, "features": features, "images": images}
        return make_record(inputs=inputs)

    pixels, pca, others = of("a", "1"), of("b", "1"), of("c", "2")
    assert not other_test_images(pixels, pca) and other_test_images(pixels, others)
    assert differing(pixels, pca, of_one_method=True) == "data is a and b, test_data is a and b"
    net, more = (of("d", x, f"net {x}", data=f"p{x}", test_data=f"t{x}") for x in "12")
    assert not other_test_images(net, pixels) and other_test_images(more, pixels)
    assert other_test_images(net, more)
    later = of("d", "1", "net 1", data="p2", test_data="t2")  # other pictures under the same names
    assert other_test_images(net, later)
    weights = "tf_efficientnet_lite0 (weights 0123abcd)", "tf_efficientnet_lite0 (weights 0123abce)"
    said = differing(of("a", "1", weights[0]), of("a", "1", weights[1]))
    assert said == f"features is {weights[0]} and {weights[1]}"


def test_versions_and_machines_that_differ_are_named():
    a100 = make_record(made_with={"torch": "2.4.0", "device": "A100"})
    said = made_otherwise([make_record(), make_record(1), a100])
    assert said == "torch (2.14.1 / 2.4.0), device (absent / A100)"
    assert made_otherwise([make_record(), make_record(1)]) == "" == made_otherwise([])
