from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regioncap.decoder import SearchConfig
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.distillation.targets import Targets, make_targets
from regioncap.experiments.distillation.teacher_table import TeacherTable, make_table
from regioncap.experiments.prepare import Prepared

TOP, TEMPERATURE = 6, 2.0


@pytest.fixture(scope="module")
def teacher(make_captioner: Callable[[str], Captioner]) -> Captioner:
    """Large weights, so that its words differ from place to place."""
    teacher = make_captioner("+graph")
    with torch.no_grad():
        for parameter in teacher.decoder.parameters():
            parameter.mul_(4 if parameter.dim() == 2 else 1)
    return teacher


@pytest.fixture(scope="module")
def targets(teacher: Captioner, prepared: Prepared) -> Targets:
    return make_targets("captions", teacher, prepared, SearchConfig(), Path("unused"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "table"


@pytest.fixture(scope="module")
def table(teacher: Captioner, prepared: Prepared, targets: Targets, folder: Path) -> TeacherTable:
    return make_table(teacher, prepared, targets, temperature=TEMPERATURE, top=TOP, folder=folder)


def test_it_holds_the_teachers_softened_words_at_every_place(
    teacher: Captioner, prepared: Prepared, targets: Targets, table: TeacherTable
) -> None:
    rows, columns = torch.tensor([7, 0, 19]), torch.tensor([[4, 1], [0, 2], [3, 3]])
    real = targets.mask[rows[:, None], columns][..., 1:]
    words, shares = table.at(rows, columns, real)
    assert words.shape == shares.shape == (*real.shape, TOP)
    for b, row in enumerate(rows.tolist()):
        one = torch.tensor([row])
        for c, column in enumerate(columns[b].tolist()):
            tokens = targets.tokens[row, column][targets.mask[row, column]]
            with torch.no_grad():
                prefix = teacher.condition(*prepared.seen(one)).prefix
                fed = torch.cat([prefix.embeddings[0][prefix.valid[0]], teacher.decoder.model.transformer.wte(tokens)])
                logits = teacher.decoder.model(inputs_embeds=fed[None]).logits[0, -len(tokens) :]
            want = (logits / TEMPERATURE).softmax(-1)
            for t in range(len(tokens) - 1):
                # Asked in bf16: the shares are near, and no word outside has more than the least inside.
                torch.testing.assert_close(shares[b, c, t], want[t][words[b, c, t]], rtol=0.15, atol=0.01)
                assert want[t].topk(TOP).values.sum() - want[t][words[b, c, t]].sum() < 0.02
                assert (shares[b, c, t].diff() <= 0).all()


def test_a_second_call_does_not_ask_the_teacher(
    teacher: Captioner,
    prepared: Prepared,
    targets: Targets,
    table: TeacherTable,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Captioner, "condition", None)
    again = make_table(teacher, prepared, targets, temperature=TEMPERATURE, top=TOP, folder=folder)
    assert np.array_equal(again.words, table.words)
    assert np.array_equal(again.shares, table.shares)


def test_a_call_that_broke_off_leaves_nothing_that_is_taken_for_a_table(
    teacher: Captioner, prepared: Prepared, targets: Targets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Captioner, "condition", broken)
        with pytest.raises(KeyboardInterrupt):
            make_table(teacher, prepared, targets, temperature=1.0, top=TOP, folder=tmp_path / "table")
    assert not (tmp_path / "table").exists()
    whole = make_table(teacher, prepared, targets, temperature=1.0, top=TOP, folder=tmp_path / "table")
    assert len(whole.words) == int(targets.mask[..., 1:].sum())


def test_a_vocabulary_smaller_than_top_is_taken_whole(
    teacher: Captioner, prepared: Prepared, targets: Targets, tmp_path: Path
) -> None:
    first = Targets(tokens=targets.tokens[:2], mask=targets.mask[:2])
    whole = make_table(teacher, prepared, first, temperature=1.0, top=10_000, folder=tmp_path / "table")
    assert whole.words.shape[1] == teacher.decoder.vocab_size
    np.testing.assert_allclose(whole.shares.astype(np.float32).sum(1), 1, atol=5e-3)
