import math
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial
from PIL import Image

from regioncap.experiments.tuning.axes import axis_of
from regioncap.experiments.tuning.figures import save_figures, tuning_figures

SPACE: dict[str, BaseDistribution] = {
    "graph.k": IntDistribution(2, 10),
    "graph.sigma": FloatDistribution(0.03, 0.5, log=True),
    "objective.alpha1": FloatDistribution(0.0, 1.5),
    "graph.metric": CategoricalDistribution(("spatial", "semantic")),
}


def study_of(finished: int, pruned: int = 0, *, objectives: int = 1, level: float | None = None) -> optuna.Study:
    study = optuna.create_study(
        storage=InMemoryStorage(), study_name="drawn", directions=["maximize", "minimize"][:objectives]
    )
    for number in range(finished + pruned):
        parameters = {
            "graph.k": 2 + number % 9,
            "graph.sigma": 0.03 * 1.2 ** (number % 15),
            "objective.alpha1": (0.37 * number) % 1.5,
            "graph.metric": ("spatial", "semantic")[number % 2],
        }
        cider = 40 + math.sin(number) if level is None else level
        over = number >= finished
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if over else TrialState.COMPLETE,
                values=[cider, 5.0 + number][:objectives],
                params=parameters,
                distributions=SPACE,
                intermediate_values={} if objectives > 1 else {1: cider / 2, 2: cider},
                user_attrs={"start": "the paper's values"} if number == 0 else {},
            )
        )
    return study


@pytest.fixture(autouse=True)
def _closed() -> None:
    plt.close("all")


def texts(figure: Figure) -> set[str]:
    figure.canvas.draw()
    return {text.get_text() for axes in figure.axes for text in [axes.title, axes.xaxis.label, axes.yaxis.label]}


def test_a_study_with_one_objective_has_its_plots_with_titles_and_units() -> None:
    figures = tuning_figures(study_of(20, 6))
    assert set(figures) == {"history", "importance", "slices", "contour", "parallel", "curves"}
    assert {"trial", "CIDEr on dev (%)", "Study drawn: 20 finished, 6 pruned"} <= texts(figures["history"])
    assert {"K", "$\\sigma$", "CIDEr on dev (%)", "Study drawn"} <= texts(figures["contour"])
    assert {"K", "$\\sigma$", "$\\alpha_1$", "graph.metric", "CIDEr on dev (%)"} <= texts(figures["slices"])
    assert "evaluation of the trial" in texts(figures["curves"])
    (axes, *_) = figures["importance"].axes
    assert {label.get_text() for label in axes.get_yticklabels()} == {"K", "$\\sigma$", "$\\alpha_1$", "graph.metric"}
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1.0)  # type: ignore[attr-defined]


def test_every_trial_is_drawn() -> None:
    figures = tuning_figures(study_of(20, 6))
    points = [len(collection.get_offsets()) for collection in figures["history"].axes[0].collections]
    assert points == [20, 6]
    assert len(figures["curves"].axes[0].lines) == 26
    assert len(figures["parallel"].axes[0].lines) == 20


def test_a_study_with_two_objectives_has_a_front() -> None:
    study = study_of(12, objectives=2)
    figures = tuning_figures(study)
    assert {"pareto", "history", "slices"} <= set(figures)
    assert "curves" not in figures
    (front,) = figures["pareto"].axes[0].lines
    expected = sorted((trial.values[1], trial.values[0]) for trial in study.best_trials)
    assert [tuple(point) for point in front.get_xydata()] == expected  # type: ignore[union-attr, attr-defined]
    assert any("ms" in text for text in texts(figures["pareto"]))


@pytest.mark.parametrize("finished", [0, 1, 2, 3, 4])
def test_few_trials_have_few_plots(finished: int) -> None:
    figures = tuning_figures(study_of(finished, 2))
    assert ("history" in figures) == (finished > 0)
    assert ("importance" in figures) == ("contour" in figures) == (finished >= 4)
    for figure in figures.values():
        figure.canvas.draw()


def test_trials_that_are_all_alike_are_drawn() -> None:
    for figure in tuning_figures(study_of(6, level=41.0)).values():
        figure.canvas.draw()


def test_figures_are_files_and_closed(tmp_path: Path) -> None:
    save_figures(tuning_figures(study_of(8)), tmp_path / "plots")
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"history.png", "importance.png", "slices.png", "contour.png", "parallel.png", "curves.png"} == names
    assert plt.get_fignums() == []
    with Image.open(tmp_path / "plots" / "history.png") as picture:
        assert min(picture.size) > 400


def test_an_axis_places_values_as_the_search_sees_them() -> None:
    log = axis_of("graph.sigma", SPACE["graph.sigma"])
    assert log.along([0.1, 1.0, 10.0]) == pytest.approx([-1.0, 0.0, 1.0])
    assert log.unit([0.1, 1.0, 10.0]) == pytest.approx([0.0, 0.5, 1.0])
    choice = axis_of("graph.metric", SPACE["graph.metric"])
    assert [choice.place(value) for value in ("spatial", "semantic")] == [0.0, 1.0]
    assert axis_of("graph.k", SPACE["graph.k"]).unit([3, 3]) == pytest.approx([0.5, 0.5])
    assert axis_of("train.lr").label == "train.lr"
