"""Outputs are whole or absent, and what was there before is never lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dnabert_jax import outputs
from dnabert_jax.errors import InputError, RunStopped


def _tree(folder):
    return {str(each.relative_to(folder)): each.read_text() for each in folder.rglob("*") if each.is_file()}


def _write(path, text, error=None):
    with outputs.folder(path) as folder:
        (folder / "data").write_text(text)
        if error:
            raise error


def _write_half(path, text, error):
    with outputs.file(path) as temporary:
        if text:
            temporary.write_text(text)
        raise error


@pytest.mark.parametrize("earlier", [False, True])
def test_a_file_replaces_another_when_it_is_complete(tmp_path, earlier):
    path = tmp_path / "out"
    if earlier:
        path.write_text("old")
    with outputs.file(path) as temporary:
        temporary.write_text("new")
        assert path.exists() == earlier
    assert _tree(tmp_path) == {"out": "new"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_file_that_fails_vanishes(tmp_path, error):
    path = tmp_path / "out"
    path.write_text("old")
    for text in ("half", ""):  # the last one before there is a file
        with pytest.raises(error):
            _write_half(path, text, error)
    assert _tree(tmp_path) == {"out": "old"}


def test_a_folder_is_made_filled_and_replaced(tmp_path):
    out = tmp_path / "deep" / "er" / "out"
    _write(out, "first")
    _write(out, "second")
    assert _tree(tmp_path) == {"deep/er/out/data": "second"}
    assert [each.name for each in out.parent.iterdir()] == ["out"]
    (tmp_path / "plain").mkdir()
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_stays_and_the_folder_goes_where_it_points(tmp_path, exists):
    if exists:
        _write(tmp_path / "scratch", "old")
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    _write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "scratch" / "data").read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "scratch"]


@pytest.mark.parametrize("error", [OSError(28, "disk full"), KeyboardInterrupt(), BrokenPipeError()], ids=repr)
@pytest.mark.parametrize("when", ["while writing", "at the last rename"])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path, monkeypatch, error, when):
    out = tmp_path / "out"
    _write(out, "old")
    rename = Path.rename

    def failing(self, target):
        if self.name == "new":
            raise error
        return rename(self, target)

    if when == "at the last rename":
        monkeypatch.setattr(Path, "rename", failing)
    kind = RunStopped if type(error) is OSError else type(error)
    with pytest.raises(kind) as caught:
        _write(out, "new", error if when == "while writing" else None)
    if kind is RunStopped:
        assert str(caught.value) == f"{out}: cannot be written (disk full); nothing was changed there"
    monkeypatch.undo()
    assert _tree(tmp_path) == {"out/data": "old"}
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_put_back_is_not_thrown_away(tmp_path, monkeypatch):
    out = tmp_path / "out"
    _write(out, "old")
    rename = Path.rename

    def failing(self, target):
        if self.name in ("new", "old"):
            raise OSError(5, "no disk any more")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(RunStopped):
        _write(out, "new")
    assert "old" in _tree(tmp_path).values()


def test_a_place_that_can_hold_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out: cannot be made"):
        _write(tmp_path / "file" / "out", "new")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_between_the_two_renames_waits_for_the_second(tmp_path, name):
    """Even one without a handler, which would end the process at once."""
    program = f"""
import os, signal, sys, threading
from pathlib import Path
from dnabert_jax import outputs
threading.Thread(target=threading.Event().wait, daemon=True).start()  # one that would take a blocked signal
out, rename = Path(sys.argv[1]), Path.rename
def interrupted(self, target):
    rename(self, target)
    if self == out:
        os.kill(os.getpid(), signal.{name})
Path.rename = interrupted
signal.signal(signal.{name}, signal.SIG_DFL)
with outputs.folder(out) as folder:
    (folder / "data").write_text("new")
"""
    out = tmp_path / "out"
    _write(out, "old")
    done = subprocess.run([sys.executable, "-c", program, out], check=False, env=dict(os.environ))
    assert done.returncode == -signal.Signals[name]
    assert (out / "data").read_text() == "new"


def test_signal_handlers_come_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    _write(tmp_path / "out", "new")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    with outputs.file(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
