from regioncap.experiments.published.layout import TICK, lay_out
from regioncap.experiments.published.measured import MeasuredBlock, MeasuredRow
from regioncap.experiments.published.printed import read_published
from regioncap.experiments.statistics import Spread

METRICS = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")


def row(name: str, *values: float, spice: bool = True) -> MeasuredRow:
    """The same values in all metrics; one a seed."""
    metrics = {metric: Spread(values=values) for metric in METRICS if spice or metric != "SPICE"}
    return MeasuredRow(name=name, metrics=metrics, seeds=len(values), missing={} if spice else {"SPICE": "no jars"})


def tables(*rows: MeasuredRow):
    measured = [MeasuredBlock(label="scenes: 400 val images", rows=rows)] if rows else []
    return {table.number: table for table in lay_out(read_published(), measured)}


def test_published_rows_stand_as_printed_with_the_best_of_each_column():
    table = tables()[3]
    (block,) = table.blocks
    assert block.rows[0] == (
        *("Semantic capture enhancement models", "M2 Transformer [27]"),
        *("80.8", "39.1", "29.2", "58.6", "131.2", "22.6"),
    )
    assert block.rows[1][0] == ""  # a category is told once
    assert block.rows[-1][1:3] == ("Ours", "* 82.9")
    best = {(block.rows[at][1].split(" [")[0], table.head[column]) for at, column in block.best}
    assert best == {("MMGAT", "B-1"), ("OFA", "B-4"), ("CoCa", "M"), ("MMGAT", "R"), ("Ours", "C"), ("OFA", "S")}
    assert len(table.references) == 11
    assert any(note.startswith("Misprint, CLIPCap: SPICE 21.2") for note in table.notes)
    assert any("p = 0.04" in note for note in table.notes)


def test_measured_rows_stand_apart_and_say_that_they_are_of_other_images():
    table = tables(row("+graph+guidance", 0.5, 0.6), row("retrieval floor", 0.2), row("+graph", 0.4))[3]
    published, block = table.blocks
    assert published == tables()[3].blocks[0]
    assert block.title == "Measured with RegionCap on scenes: 400 val images"
    assert block.remark.startswith("Other images than the rows above")
    assert [line[1] for line in block.rows] == ["+graph+guidance (2 seeds)", "retrieval floor (1 seed)"]
    assert block.rows[0][2] == "55.0 ± 7.1"
    assert block.rows[1][2] == "20.0"
    assert block.best == {(0, column) for column in range(2, 8)}


def test_ablation_ticks_the_parts_and_sums_the_columns():
    found = tables(row("baseline", 0.1), row("+graph", 0.2, spice=False), row("random edges", 0.1), row("mine", 0.9))
    five, six = found[5].blocks[1], found[6].blocks[1]
    assert [line[:4] for line in five.rows] == [
        ("baseline (1 seed)", TICK, "", ""),
        ("+graph (1 seed)", TICK, TICK, ""),
        ("random edges (1 seed)", "", "", ""),
    ]
    assert [line[-1] for line in five.rows] == ["60.0", "n/a", "60.0"]
    assert [line[-1] for line in six.rows] == ["50.0", "100.0", "50.0"]
    assert five.rows[1][-2] == "n/a"
    assert any(note == "SPICE n/a: no jars" for note in found[5].notes)
    assert not any("SPICE n/a" in note for note in found[6].notes)
    assert (1, 4) in five.best
    assert not any(column == found[5].head.index("S") for _, column in five.best)  # all that have one print the same


def test_a_table_without_measured_rows_of_its_kind_has_no_block():
    found = tables(row("random edges", 0.1))
    assert [len(found[number].blocks) for number in (3, 4, 5, 6)] == [1, 1, 2, 2]
