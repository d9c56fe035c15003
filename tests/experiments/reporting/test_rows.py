import numpy as np
import pytest

from regioncap.experiments.arms import ARMS, RETRIEVAL
from regioncap.experiments.reporting.rows import ScoredRun, by_arm, study_rows
from regioncap.experiments.statistics import paired_bootstrap


def run(arm: str, seed: int = 0, gain: float = 0.0, **fields: object) -> ScoredRun:
    generator = np.random.default_rng(seed)
    cider = {f"{i}.jpg": float(generator.random() + gain) for i in range(30)}
    values: dict[str, object] = {
        "arm": arm,
        "corpus": {"CIDEr": float(np.mean(list(cider.values()))), "BLEU-4": 0.2},
        "cider": cider,
        "missing": {},
        "parameters": 7,
        "train_cpu_s": 10.0 + seed,
    }
    return ScoredRun(**(values | fields))  # type: ignore[arg-type]


def test_rows_stand_in_the_order_of_the_table_and_strangers_last() -> None:
    runs = [run("wings"), run("+graph"), run("baseline"), run(RETRIEVAL), run("+graph", 1)]
    assert list(by_arm(runs)) == [RETRIEVAL, "baseline", "+graph", "wings"]
    assert [len(own) for own in by_arm(runs).values()] == [1, 1, 2, 1]


def test_row_is_mean_spread_and_p_of_its_seeds() -> None:
    runs = [run("baseline", 0), run("baseline", 1), run("+graph", 2, 0.3), run("+graph", 3, 0.3)]
    first, second = study_rows(runs)
    ciders = [own.corpus["CIDEr"] for own in runs[2:]]
    assert second.metrics["CIDEr"].mean == pytest.approx(np.mean(ciders))
    assert second.metrics["CIDEr"].std == pytest.approx(np.std(ciders, ddof=1))
    assert second.train_cpu_s == 12.5
    assert (first.p, first.against) == (None, None)  # its own peer is not in the study
    assert second.against == ARMS["+graph"].against == "baseline"
    assert second.p == paired_bootstrap([own.cider for own in runs[2:]], [own.cider for own in runs[:2]])


def test_metric_that_a_seed_lacks_is_not_in_the_row() -> None:
    (row,) = study_rows([run("baseline"), run("baseline", 1, corpus={"CIDEr": 0.4})])
    assert set(row.metrics) == {"CIDEr"}
