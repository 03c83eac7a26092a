import errno
import json
import math
import os
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from dnabert_jax.errors import RunStopped
from dnabert_jax.training import reports
from dnabert_jax.training.reports import Reports


def events(path):
    """TFRecords, read by their definition: length, its checksum, the bytes, their checksum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack_from("<Q", data)
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def curve_files(workdir):
    return sorted((workdir / "tensorboard").iterdir(), key=lambda path: int(path.name.rsplit(".", 1)[1]))


def curves(workdir):
    """What TensorBoard shows: scalars by tag and step, without those that a later start takes back."""
    shown = {}
    for path in curve_files(workdir):
        for event in events(path):
            if event.HasField("session_log"):
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    return shown


def run(workdir, start, stop):
    with Reports(workdir, append_from_step=start) as out:
        for step in range((start or 0) + 1, stop + 1):
            out.write(step, "train", {"loss": 1 / step})
            if step % 5 == 0:
                out.write(step, "validation", {"bits_per_base": 2 - step / 1000})


def test_each_report_is_one_json_object_with_step_and_split_first(tmp_path):
    with Reports(tmp_path) as out:
        out.write(np.int32(5), "train", {"loss": np.float32(0.25), "learning_rate": 1e-4})
        out.write(5, "validation", {"loss": float("nan"), "per_class": {"donor": {"f1": None}}})
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # on disk before the files are closed
    assert lines[0] == '{"step": 5, "split": "train", "loss": 0.25, "learning_rate": 0.0001}'
    assert json.loads(lines[1]) == {
        "step": 5,
        "split": "validation",
        "loss": None,
        "per_class": {"donor": {"f1": None}},
    }
    assert reports.read(tmp_path) == [json.loads(line) for line in lines]


def test_tensorboard_gets_the_same_numbers(tmp_path):
    with Reports(tmp_path) as out:
        out.write(5, "train", {"loss": 0.25, "note": "text", "unknown": math.inf, "per_class": {"a": 1}})
        out.write(10, "validation", {"loss": 0.5})
        shown = curves(tmp_path)
    assert shown == {("train/loss", 5): 0.25, ("validation/loss", 10): 0.5}


@pytest.mark.parametrize(("stopped", "saved"), [(13, 10), (10, 10), (9, 5)])
def test_a_resumed_run_ends_with_the_reports_of_an_uninterrupted_one(tmp_path, stopped, saved):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    run(whole, None, 20)
    run(resumed, None, stopped)
    run(resumed, saved, 20)
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert curves(resumed) == curves(whole)
    assert len(curve_files(resumed)) == 2
    assert sorted(path.name for path in resumed.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_a_run_that_starts_anew_drops_everything(tmp_path):
    with Reports(tmp_path) as out:
        out.write(0, "validation", {"loss": 1.0})
        out.write(3, "train", {"loss": 1.0})
    with Reports(tmp_path) as out:
        out.write(0, "validation", {"loss": 2.0})
    assert reports.read(tmp_path) == [{"step": 0, "split": "validation", "loss": 2.0}]
    assert curves(tmp_path) == {("validation/loss", 0): 2.0}


def test_a_run_that_resumes_from_step_0_keeps_what_was_reported_there(tmp_path):
    with Reports(tmp_path) as out:
        out.write(0, "validation", {"loss": 1.0})
        out.write(1, "train", {"loss": 1.0})
    Reports(tmp_path, append_from_step=0).close()
    assert reports.read(tmp_path) == [{"step": 0, "split": "validation", "loss": 1.0}]
    assert curves(tmp_path) == {("validation/loss", 0): 1.0}


def test_a_line_that_was_cut_short_is_dropped(tmp_path):
    run(tmp_path, None, 10)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 7, "split": "tr')
    assert len(reports.read(tmp_path)) == 12
    Reports(tmp_path, append_from_step=10).close()
    assert path.read_bytes() == whole


def test_reading_where_nothing_was_reported(tmp_path):
    assert reports.read(tmp_path) == []


def test_a_full_disk_stops_the_run_and_names_the_file(tmp_path, monkeypatch):
    def full(handle, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Reports(tmp_path) as out:
        monkeypatch.setattr(reports, "_write_all", full)
        with pytest.raises(RunStopped, match=r"metrics\.jsonl"):
            out.write(1, "train", {"loss": 1.0})


def test_closing_twice_is_harmless(tmp_path):
    out = Reports(tmp_path)
    out.close()
    out.close()
