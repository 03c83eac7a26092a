"""A slice of the human genome that comes with the package, so that the demo needs no download; README.md says whence.

The FASTA calls its record `20` and the GTF calls it `chr20`, as the files did that they were cut from.
"""

from pathlib import Path

FASTA = Path(__file__).parent / "chr20_slice.fa.gz"
"""4,194,304 bases of chromosome 20 (GRCh37), bgzip, one record."""

GTF = Path(__file__).parent / "chr20_slice.gtf.gz"
"""The RefSeq exons inside, in coordinates of the slice."""
