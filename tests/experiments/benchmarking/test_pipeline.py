"""Shares of the pipeline, whether the steps add up, and the figure."""

from collections.abc import Callable
from typing import Any

import pytest

from regioncap.experiments.benchmarking.figures import pipeline_figure
from regioncap.experiments.benchmarking.pipeline import ENCODERS, pipeline_of
from regioncap.experiments.benchmarking.record import STAGES, Ratio
from regioncap.experiments.benchmarking.tables import ratio_table

Invent = Callable[..., Any]


def test_shares_are_of_the_sum_and_of_what_is_left(invent_bench: Invent) -> None:
    pipeline = pipeline_of(invent_bench())
    assert pipeline is not None
    times = {stage: 0.01 * 2**place for place, stage in enumerate(STAGES)}
    assert pipeline.seconds == pytest.approx(times)
    assert pipeline.share(["graph", "guidance"]) == pytest.approx(
        (times["graph"] + times["guidance"]) / sum(times.values())
    )
    rest = sum(seconds for stage, seconds in times.items() if stage not in ENCODERS)
    assert pipeline.share(["decoder"], without=ENCODERS) == pytest.approx(times["decoder"] / rest)
    assert pipeline.gap == pytest.approx(1 / 1.02 - 1)
    assert "-2.0%" in pipeline.sum_text
    assert pipeline.answer.startswith(
        "Graph and guidance take 15.7% of the pipeline's time (graph 3.13%, guidance 12.52%)"
    )


def test_steps_of_one_stage_add_up_and_their_memory_does_not(
    record_of: Invent, case_of: Invent, results_of: Invent
) -> None:
    steps = [
        record_of("guidance", name, p50_s=0.01, pipeline=True, peak_mib=mib) for name, mib in (("a", 3.0), ("b", 5.0))
    ]
    whole = record_of("captioner", "end to end", p50_s=0.01, images=4)
    pipeline = pipeline_of(results_of([case_of(record) for record in (*steps, whole)]))
    assert pipeline is not None
    assert pipeline.seconds == {"guidance": pytest.approx(0.02)}
    assert pipeline.mib == {"guidance": 5.0}
    assert pipeline.end_to_end_s == pytest.approx(0.02)  # of a batch of 8, as the steps


def test_what_was_timed_in_turns_with_the_whole_goes_before(
    record_of: Invent, case_of: Invent, results_of: Invent
) -> None:
    shares = (
        Ratio(peer="sum of its steps", low=0.98, median=0.99, high=1.01),
        Ratio(peer="graph and guidance", low=0.02, median=0.03, high=0.04),
    )
    steps = [case_of(record_of(stage, pipeline=True)) for stage in ("graph", "guidance", "decoder")]
    whole = case_of(record_of("captioner", "end to end", p50_s=1.0, ratios=shares))
    results = results_of([*steps, whole])
    pipeline = pipeline_of(results)
    assert pipeline is not None
    assert pipeline.gap == pytest.approx(-0.01)
    assert "(-1.0%, quartiles 98.0% to 101.0% of the whole, in turns)." in pipeline.sum_text
    assert "in turns with the whole 2.0% to 4.0%" in pipeline.answer
    assert whole.peers == ()
    assert ratio_table(results).rows == ()


def test_batches_of_two_sizes_do_not_add_up(record_of: Invent, case_of: Invent, results_of: Invent) -> None:
    steps = [record_of("graph", pipeline=True), record_of("decoder", pipeline=True, images=1)]
    with pytest.raises(ValueError, match=r"batches of \[1, 8\] images"):
        pipeline_of(results_of([case_of(step) for step in steps]))
    assert pipeline_of(results_of([])) is None


def test_figure_has_a_part_for_every_stage_and_fills_both_bars(invent_bench: Invent) -> None:
    pipeline = pipeline_of(invent_bench())
    assert pipeline is not None
    (axes,) = pipeline_figure(pipeline).axes
    widths = [patch.get_width() for patch in axes.patches if patch.get_width()]
    assert len(widths) == 2 * len(STAGES) - len(ENCODERS)
    assert sum(widths) == pytest.approx(200)
    texts = " ".join(text.get_text() for text in axes.texts)
    assert "decoder" in texts
    assert "preprocessing" not in texts  # 0.2 %: no room
