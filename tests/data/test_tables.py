"""Tables with a `sequence` column, and what is wrong with those that have none."""

import gzip
import re

import pytest

from dnabert_jax.data import tables
from dnabert_jax.errors import InputError


def test_columns_come_in_any_order_and_case(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfLabel,note,Sequence\r\n1,x,ACGT\r\n0,,GG\r\n"))
    assert tables.is_table(path)
    assert list(tables.read(path, ["sequence", "label"])) == [
        (2, {"label": "1", "note": "x", "sequence": "ACGT"}),
        (3, {"label": "0", "note": "", "sequence": "GG"}),
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "chr1\t1\t2\n", ">a\nACGT\n"])
def test_no_table(tmp_path, content):
    path = tmp_path / "file"
    path.write_text(content)
    assert not tables.is_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": an empty file; expected a header with 'sequence' and 'label'"),
        ("sequence\tlabel\n\n", ": nothing below the header"),
        ("sequence\tclass\nACGT\t1\n", ": line 1: no column 'label'"),
        ("\nACGT,1\nGGGG,0\n", ": line 2: no column 'sequence'"),
        ("sequence,label,sequence\nA,1,C\n", ": line 1: 2 columns 'sequence'"),
        ("sequence,label\nACGT,1\nACGT\n", ": line 3: 1 fields; expected 2 as in the header"),
        ("sequence,label\nACGT,1,2\n", ": line 2: 3 fields; expected 2 as in the header"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        list(tables.read(path, ["sequence", "label"]))
