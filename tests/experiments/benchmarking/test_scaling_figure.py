import numpy as np
import pytest

from regioncap.experiments.benchmarking.scaling import Curve, Exponent
from regioncap.experiments.benchmarking.scaling_figure import draw_axis

TIME = Curve(
    stage="graph",
    name="KNN",
    axis="regions",
    quantity="time",
    points=((10.0, 0.001), (100.0, 0.01), (1000.0, 0.1)),
    exponent=Exponent(slope=1.0, error=0.02),
    last=None,
)
MEMORY = Curve(
    stage="graph", name="KNN", axis="regions", quantity="memory", points=((10.0, 1.0),), exponent=None, last=None
)


def test_time_and_memory_stand_side_by_side_in_log_scales() -> None:
    figure = draw_axis([TIME, MEMORY], "regions")
    time, memory = figure.axes
    assert (time.get_xscale(), time.get_yscale(), time.get_xlabel()) == ("log", "log", "regions")
    (line,) = time.lines
    assert np.asarray(line.get_ydata()) == pytest.approx(np.array([1.0, 10.0, 100.0]))  # milliseconds
    assert line.get_label() == "KNN: 1.00 ± 0.02"
    assert memory.lines[0].get_label() == "KNN"
    assert memory.lines[0].get_color() == line.get_color()


def test_one_quantity_has_one_panel() -> None:
    assert len(draw_axis([TIME], "regions").axes) == 1


def test_an_axis_without_curves_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="no curve lies along 'beams'; there are curves along: regions"):
        draw_axis([TIME], "beams")
