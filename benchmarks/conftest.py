"""A file's `STAGE_CASES` are the cases of its tests that take a `stage_case`; those of the full set are slow ones."""

import pytest

from regioncap.experiments.benchmarking.case import Case


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stage_case" not in metafunc.fixturenames:
        return
    cases: tuple[Case, ...] = metafunc.module.STAGE_CASES
    ids = [case.id for case in cases]
    assert len(ids) == len(set(ids)), f"two cases of {metafunc.module.__name__} have one name"
    marked = [pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.full else []) for case in cases]
    metafunc.parametrize("stage_case", marked)
