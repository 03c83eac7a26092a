"""Reports: pages that show what a run came to.

`write` is `dnabert report`: the page of a fine-tuning run. `page` makes a page of sections, each of which has tables
and pictures; every report is made of these, so that all look alike.
"""

from dnabert_jax.report.document import Section, markdown, page, paragraph, picture, table
from dnabert_jax.report.judgement import TITLES
from dnabert_jax.report.run import write

__all__ = ["TITLES", "Section", "markdown", "page", "paragraph", "picture", "table", "write"]
