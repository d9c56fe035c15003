from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from regioncap.experiments.metrics import METRICS
from regioncap.experiments.tracking import metric_name


def test_names_of_training_and_scoring_have_their_section() -> None:
    wanted = {
        "dev.cider": "dev/CIDEr",
        "dev.distinct": "dev/distinct",
        "loss.generation": "loss/generation",
        "gate_mean": "guidance/gate_mean",
        "lr": "optimizer/lr",
        "graph.degree_mean": "graph/degree_mean",
        "parameters": "cost/parameters",
        "perplexity.word": "perplexity/word",
        "loss.keywords": "loss/keywords",
        "gradient_norm": "optimizer/gradient_norm",
        "gradient_norm.clip_head": "gradient_norm/clip_head",
        "lr.decoder": "optimizer/lr.decoder",
        "gate.word_bias": "guidance/gate_word_bias",
        "images_per_s": "cost/images_per_s",
        "memory_mb": "cost/memory_mb",
        "dev.loss": "dev/loss",
        "dev.loss_shuffled": "dev/loss_shuffled",
        "dev.image_use": "dev/image_use",
        "reward.cider": "reward/cider",
        "system/process_memory_megabytes": "system/process_memory_megabytes",
    }
    assert {name: metric_name(name) for name in wanted} == wanted
    assert {metric_name(metric).split("/")[0] for metric in METRICS} == {"score"}


def test_arms_keep_their_words() -> None:
    assert metric_name("CIDEr/+graph+guidance") == "CIDEr/plus graph plus guidance"
    assert metric_name("CIDEr/baseline") == "CIDEr/baseline"


def test_a_name_is_named_once() -> None:
    for name in ("dev.cider", "CIDEr/+graph", "lr", "lr.decoder", "gate.mean", "BLEU-4", "x.y.z"):
        assert metric_name(metric_name(name)) == metric_name(name)


@given(st.from_regex(r"[a-z_+]{1,9}([./][a-zA-Z0-9_ (\[+-]{1,9})?[a-z]", fullmatch=True))
def test_mlflow_takes_every_name(name: str) -> None:
    _validate_metric_name(metric_name(name))
