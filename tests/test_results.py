"""Where results go: whole or not at all, and never over what is read."""

import os
from pathlib import Path

import pytest

from dnabert_jax import results
from dnabert_jax.errors import InputError, RunStopped


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_whole_or_absent(tmp_path: Path, kind: str):
    path = tmp_path / "out"

    def write(failing: bool) -> None:
        if kind == "text":
            with results.text(path) as file:
                file.write("new")
                if failing:
                    raise KeyboardInterrupt
        else:
            with results.binary(path) as place:
                place.write_text("new")
                if failing:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(True)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write(True)
    assert path.read_text() == "old"
    write(False)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", [results.text, results.binary])
def test_places_that_cannot_be_written(tmp_path: Path, writer):
    for path, said in [(tmp_path, "is a folder"), (tmp_path / "none" / "out", "cannot be written")]:
        with pytest.raises(InputError, match=said), writer(path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_writing_that_fails(tmp_path: Path):
    said = "out: writing failed .No space left on device.; no output was left"
    with pytest.raises(RunStopped, match=said), results.text(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_pipes_take_text_as_it_comes_and_no_binary_file(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with results.text(pipe) as file:
            file.write("rows")
        assert os.read(reader, 100) == b"rows"
        with pytest.raises(InputError, match="is a pipe or a device; expected a file"), results.binary(pipe):
            pass
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_what_is_read_is_no_place(tmp_path: Path):
    read, model = tmp_path / "in.fa", tmp_path / "model"
    read.write_text("")
    model.mkdir()
    (model / "params").write_text("")
    with pytest.raises(InputError, match="is the input; expected another file"):
        results.check_place(read, inputs=("", read), model=model)
    with pytest.raises(InputError, match="belongs to the model"):
        results.check_place(model / "params", inputs=(read,), model=model)
    results.check_place(tmp_path / "out", inputs=(read, ""), model=model)
    results.check_place(model / "new", inputs=(read, ""), model=model)
    results.check_place(tmp_path / "out", inputs=(read, ""), model="owner/model")
