"""A trained captioner as MLflow's model: what is logged, which version is the best, and what a server answers."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from regioncap.experiments.prepare import Prepared
from regioncap.experiments.serving import BEST, log_captioner
from regioncap.experiments.serving.log_captioner import requirements

NAME = "regioncap-scenes"


@pytest.fixture(scope="module")
def logged(trained: tuple[Any, Path]) -> tuple[MlflowClient, str, Path]:
    """The store that `regioncap train` wrote, its run, and the run's checkpoint."""
    folder = trained[1]
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}")
    runs = json.loads((folder / "mlflow_runs.json").read_text())
    return client, runs["+graph+guidance seed 0"], folder / "checkpoint"


@pytest.fixture(scope="module")
def model(logged: tuple[MlflowClient, str, Path]) -> Path:
    """The folder of the model that `regioncap train` logged."""
    client, run, _ = logged
    address = client.get_run(run).data.tags["regioncap.weights"].split(" ")[0]
    return Path(client.get_logged_model(address.removeprefix("models:/")).artifact_location.removeprefix("file://"))


def test_training_says_where_its_model_is(trained: tuple[Any, Path]) -> None:
    assert "Model of +graph+guidance seed 0: models:/m-" in trained[0].out
    assert "a version of regioncap-scenes in MLflow's registry" in trained[0].out


def test_model_is_code_safetensors_signature_example_and_requirements(model: Path) -> None:
    files = {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()}
    assert {"MLmodel", "captioner_model.py", "requirements.txt", "input_example.json"} <= files
    assert "artifacts/checkpoint/model.safetensors" in files
    assert "code/regioncap/experiments/captioner.py" in files
    assert "code/regioncap/graph/attention.py" in files  # five distributions in one tree
    assert not [name for name in files if name.endswith((".pkl", ".pyc", ".pt"))]
    described = Model.load(str(model))
    assert [column.name for column in described.signature.inputs] == ["image"]
    assert [column.name for column in described.signature.outputs] == ["caption", "confidence", "words"]
    assert str(model.parents[3]) not in (model / "input_example.json").read_text()


def test_requirements_are_pinned_and_to_be_had_from_an_index() -> None:
    pinned = requirements()
    assert {"torch", "transformers", "safetensors"} <= {line.split("==")[0] for line in pinned}
    assert all("==" in line and "+" not in line for line in pinned)
    assert not [line for line in pinned if line.startswith("regioncap")]


def test_model_captions_as_the_command_does(
    model: Path, trained: tuple[Any, Path], prepared: Prepared, command: Callable[..., Any]
) -> None:
    path = prepared.dev_images[1].path
    said = command("caption", trained[1] / "checkpoint", path).out.strip().split("\t")[1]
    file = base64.b64encode(path.read_bytes()).decode()
    loaded = mlflow.pyfunc.load_model(str(model))
    answer = loaded.predict(pd.DataFrame({"image": [str(path), file, f"data:image/jpeg;base64,{file}"]}))
    assert answer["caption"].tolist() == [said] * 3
    assert answer["confidence"].between(0, 1).all()
    assert answer["words"].map(len).tolist() == [4] * 3  # guidance.scene_words of the preset
    for bad in ("/nowhere/at/all.jpg", base64.b64encode(b"no picture" * 40).decode(), "data:image/png;base64,%%%"):
        with pytest.raises(MlflowException, match="picture 0 is neither a picture in base64 nor a path"):
            loaded.predict(pd.DataFrame({"image": [bad]}))


def test_same_weights_are_logged_once_and_best_moves_to_the_higher_score(
    logged: tuple[MlflowClient, str, Path], prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client, run, checkpoint = logged
    picture = prepared.dev_images[0].path

    def log(name: str, **scores: Any) -> str:
        return log_captioner(client, run, checkpoint, name=name, picture=picture, **scores)

    held = client.get_model_version_by_alias(NAME, BEST)
    assert log(NAME, cider=99.0, images=8) == client.get_run(run).data.tags["regioncap.weights"].split(" ")[0]
    assert client.get_model_version_by_alias(NAME, BEST).version == held.version
    best = []
    for cider, images in ((30.0, 8), (25.0, 8), (31.0, 8), (90.0, 4), (20.0, 100)):
        client.set_tag(run, "regioncap.weights", "")  # as if trained again
        log("regioncap-other", cider=cider, images=images)
        best.append(int(client.get_model_version_by_alias("regioncap-other", BEST).version))
    assert best == [1, 1, 3, 3, 5]  # few images say little, more say more
    tags = client.get_model_version_by_alias("regioncap-other", BEST).tags
    assert tags == {"dev_CIDEr": "20.00", "dev_images": "100"}
    assert not list(tmp_path.iterdir())  # no store of its own in the folder that the process stands in
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_models_serve_answers_a_picture_with_a_caption(
    logged: tuple[MlflowClient, str, Path], prepared: Prepared, command: Callable[..., Any], tmp_path: Path
) -> None:
    client, _, checkpoint = logged
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": client.tracking_uri,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)  # the model brings its sources
    words = ["models", "serve", "-m", f"models:/{NAME}@{BEST}", "--env-manager", "local", "-p", str(port), "-w", "1"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], env=environment, cwd=tmp_path, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/ping", server, tmp_path / "log")
        path = prepared.dev_images[0].path
        file = base64.b64encode(path.read_bytes()).decode()
        status, answer = _post(f"{address}/invocations", {"inputs": {"image": [file, str(path)]}})
        assert status == 200
        captions = [row["caption"] for row in answer["predictions"]]
        said = command("caption", checkpoint, path).out.strip().split("\t")[1]
        assert captions == [said, said]
        status, answer = _post(f"{address}/invocations", {"inputs": {"image": ["nonsense"]}})
        assert status == 400
        assert "neither a picture in base64 nor a path" in answer["message"]
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text())


def _post(address: str, content: Any) -> tuple[int, Any]:
    body = json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
