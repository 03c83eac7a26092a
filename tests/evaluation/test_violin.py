"""The violins of many models: what is marked where, and figures that are few or equal."""

import numpy as np
import pytest

from dnabert_jax.evaluation import violin


@pytest.mark.parametrize("values", [[0.8], [0.9, 0.9, 0.9], [0.7, 0.95, 0.9, 0.91]])
def test_mean_and_median_are_where_they_are(values, tmp_path):
    figure = violin.draw({"accuracy": values, "F1": [each / 2 for each in values]}, "4 factors")
    (axes,) = figure.axes
    middles = [float(line.get_segments()[0][0][1]) for line in axes.collections if hasattr(line, "get_segments")]
    assert middles == [np.median(values), np.median(values) / 2]
    marks = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(marks, [np.mean(values), np.mean(values) / 2])
    dots = [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [values, [each / 2 for each in values]]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == f"accuracy\nmean {np.mean(values):.3f}\nmedian {np.median(values):.3f}"
    figure.savefig(tmp_path / "violin.png")
    assert (tmp_path / "violin.png").read_bytes().startswith(b"\x89PNG")
