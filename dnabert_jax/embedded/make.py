"""Cuts the embedded genome out of a whole chromosome 20 and its RefSeq exons; the same input gives the same files.

python -m dnabert_jax.embedded.make human_chr20_grch37.fa.gz human_chr20_grch37.refseq.gtf.gz FOLDER
"""

import argparse
import gzip
from pathlib import Path

import pysam

from dnabert_jax import kmers
from dnabert_jax.data import fasta, regions, text
from dnabert_jax.embedded import FASTA, GTF
from dnabert_jax.errors import InputError

RECORD = "20"
START = 30_000_000
"""0-based, in chromosome 20."""
LENGTH = 1 << 22

_PER_LINE = 60


def make(fasta_path: str | Path, gtf_path: str | Path, out: str | Path) -> None:
    """Writes the files of the embedded genome.

    Args:
      fasta_path: FASTA with chromosome 20 of GRCh37.
      gtf_path: GTF with its exons.
      out: folder to write them to.

    Raises:
      InputError: a file cannot be read, or has no chromosome 20 that is long enough.
    """
    _cut_fasta(fasta_path, Path(out) / FASTA.name)
    _cut_gtf(gtf_path, Path(out) / GTF.name)


def _cut_fasta(source: str | Path, out: Path) -> None:
    for record in fasta.records(source):
        if regions.same_record(record.name, RECORD) and record.bases.size >= START + LENGTH:
            break
    else:
        raise InputError(f"{source}: no record {RECORD!r} of at least {START + LENGTH:,} bases")
    letters = kmers.decode(record.bases[START : START + LENGTH])
    with pysam.BGZFile(str(out), "w9") as file:
        file.write(f">{RECORD}\n".encode())
        for at in range(0, LENGTH, _PER_LINE):
            file.write(letters[at : at + _PER_LINE].encode() + b"\n")
    fasta.IndexedFasta(out).close()  # makes the index


def _cut_gtf(source: str | Path, out: Path) -> None:
    with open(out, "wb") as plain, gzip.GzipFile("", "wb", 9, plain, mtime=0) as file:
        for _, line in text.lines(source):
            fields = line.split("\t")
            if line.startswith("#") or len(fields) != 9 or not regions.same_record(fields[0], RECORD):
                continue
            start, end = int(fields[3]) - START, int(fields[4]) - START  # 1-based, end included
            if fields[2] == "exon" and start >= 1 and end <= LENGTH:
                fields[3:5] = str(start), str(end)
                file.write(("\t".join(fields) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fasta")
    parser.add_argument("gtf")
    parser.add_argument("out", help="folder")
    arguments = parser.parse_args()
    make(arguments.fasta, arguments.gtf, arguments.out)
