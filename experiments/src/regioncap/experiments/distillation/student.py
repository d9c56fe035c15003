"""A captioner that takes its teacher's stages and has a prefix and a decoder of its own."""

from dataclasses import replace

from regioncap.decoder import Gpt2DecoderConfig
from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.phases import PhaseConfig


class Student(Captioner):
    """A captioner whose stages before the prefix are its teacher's, as they were: only prefix and decoder train."""

    def train(self, mode: bool = True) -> "Student":
        """Training mode for what trains; the teacher's stages keep their dropout off and their statistics."""
        super().train(mode)
        for stage in (self.adapter, self.graph, self.fusion, self.guidance):
            stage.eval()
        return self

    def free(self, phase: PhaseConfig) -> None:
        """Freeze all but the prefix and, where the phase says so, the decoder."""
        self.requires_grad_(False)
        self.prefix.requires_grad_(True)
        self.decoder.word_bias.requires_grad_(True)
        for parameter in self.decoder.trained():
            parameter.requires_grad_(phase.decoder)


def student_experiment(teacher: Experiment, decoder: Gpt2DecoderConfig, train: TrainConfig, seed: int) -> Experiment:
    """The teacher's experiment with the student's decoder and training, in one phase."""
    return replace(
        teacher,
        decoder=decoder,
        train=train,
        phase1=PhaseConfig(share=1.0),
        phase2=PhaseConfig(share=0.0),
        seed=seed,
    )


def make_student(experiment: Experiment, teacher: Captioner, prepared: Prepared) -> Student:
    """A student whose stages before the prefix hold the teacher's weights and statistics."""
    fresh = build_captioner(
        experiment,
        region_dim=prepared.train.region_dim,
        text_dim=prepared.text_dim,
        clip_head=teacher.clip_head,
        tokenizer=prepared.tokenizer,
        scene_bank=prepared.scene_bank,
        detail_bank=prepared.detail_bank,
    )
    student = Student(**dict(fresh.named_children()))  # type: ignore[arg-type]
    own = ("prefix.", "decoder.")
    taken = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith(own)}
    loaded = student.load_state_dict(taken, strict=False)
    assert not loaded.unexpected_keys
    assert all(name.startswith(own) for name in loaded.missing_keys)
    return student
