"""Pages are whole, ask for nothing outside them, and show what they were given."""

import math

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from dnabert_jax.report import Section, markdown, page, picture, table
from tests.report.pages import Page


def figure() -> Figure:
    drawn = Figure(figsize=(3, 2))
    drawn.add_subplot().plot([0, 1], [0, 1], label="$a")
    return drawn


def test_a_page_has_its_sections_in_order():
    found = Page(page("A & B", [Section("One", "text", "more"), Section("Two", table(["x"], [[1]]))], subtitle="<new>"))
    assert found.headings == ["A & B", "One", "Two"]
    assert found.tables == [[["x"], ["1"]]]
    assert "<new>" in found.text


def test_text_is_never_taken_for_html():
    bad = "<script>alert('x')</script>&amp;"
    written = page(bad, [Section(bad, bad, table([bad], [[bad]], caption=bad), picture(figure(), bad, alt='"><b>'))])
    assert Page(written).tables == [[[bad], [bad]]]


def test_html_stays_html():
    assert "<b>bold</b>" in page("x", [Section("", Markup("<p><b>bold</b></p>"))])


def test_numbers_are_shown_with_four_digits():
    rows = [
        [0.123456, 12345, None],
        [math.nan, -3, None],
        [123456.7, 0, None],
        [0.00001234, 1, None],
        [np.float32(0), np.int64(2), None],
    ]
    found = Page(page("x", [Section("", table(["a", "b", "c"], rows))])).table("a")
    assert [row[0] for row in found] == ["0.1235", "–", "1.235e+05", "1.234e-05", "0.0000"]
    assert [row[1] for row in found] == ["12,345", "-3", "0", "1", "2"]
    assert {row[2] for row in found} == {"–"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00123456, "0.00123"),
        (0.9996, "1.00"),
        (12.3456, "12.3"),
        (-99.96, "-100"),
        (123456.7, "123,000"),
        (0.0, "0"),
        (math.inf, "–"),
        (7, "7"),
    ],
)
def test_floats_have_as_many_digits_as_asked(value, shown):
    assert Page(page("x", [Section("", table(["a"], [[value]], digits=3))])).table("a") == [[shown]]


def test_only_columns_of_numbers_are_flush_right():
    written = table(["name", "n", "mixed", "none"], [["a", 1, 2, None], ["b", None, "x", None]])
    assert '<th class="number">n</th>' in written
    for name in ("name", "mixed", "none"):
        assert f"<th>{name}</th>" in written


def test_a_picture_is_a_drawing_inside_the_page_and_the_same_every_time():
    first, second = (page("x", [Section("", picture(figure(), "what it is"))]) for _ in range(2))
    assert first == second
    found = Page(first)
    assert "what it is" in found.text
    assert found.pictures[0].rstrip().endswith("</svg>")


def test_a_readme_is_shown_without_what_it_points_to():
    text = "# Title\n\nSome `code` and [a link](http://a.example/x) ![p](http://a.example/p.png) <img src=http://x>\n\n"
    text += "| what | count |\n| --- | ---: |\n| a \\| b | 1,000 |\n"
    found = Page(page("x", [Section("", markdown(text))]))
    assert found.headings == ["x", "Title"]
    assert found.tables == [[["what", "count"], ["a | b", "1,000"]]]
    assert found.pictures == []
