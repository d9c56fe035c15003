"""What to look at in MLflow's interface, from what the store holds."""

from mlflow.entities import ViewType

from regioncap.experiments.arms import RETRIEVAL
from regioncap.experiments.tracking.store import MlflowStore

_LATEST = 5
_WORKFLOW = "?workflowType=machine_learning"
"""Opens the interface's pages for training runs; on its own it shows those for chats."""
_FLOOR = f"CIDEr/{RETRIEVAL}"


def guide(store: MlflowStore, address: str) -> str:
    """Lines for the terminal: the latest studies with their addresses, and where the interface keeps what."""
    address = store.uri if store.uri.startswith("http") else address
    experiments = [found for found in store.client.search_experiments() if found.name.startswith("regioncap-")]
    runs = store.client.search_runs(
        [found.experiment_id for found in experiments],
        filter_string="tags.kind != ''",
        run_view_type=ViewType.ACTIVE_ONLY,
        max_results=_LATEST,
        order_by=["attributes.start_time DESC"],
    )
    lines = [f"MLflow: {address}   (store {store.shown}; Ctrl-C ends it)"]
    if not runs:
        return "\n".join([*lines, "It is empty: `regioncap ablate scenes --out runs/first` makes a first study."])
    lines.append("The latest:")
    for run in runs:
        info = run.info
        arms = {key: value for key, value in run.data.metrics.items() if key.startswith("CIDEr/") and key != _FLOOR}
        best = max(((value, key) for key, value in arms.items()), default=None)
        told = f", best CIDEr {best[0]:.1f} ({best[1].removeprefix('CIDEr/')})" if best else ""
        lines.append(f"  {info.run_name} ({info.status.lower()}{told})")
        lines.append(f"    {address}/#/experiments/{info.experiment_id}/runs/{info.run_id}{_WORKFLOW}")
    return "\n".join(
        [
            *lines,
            "What to look at:",
            "  a study's run     description with the table; its children are the arms, `CIDEr/` compares them",
            "  an arm's run      Model metrics: curves by section; Artifacts: captions.json (each caption's CIDEr),",
            "                    pictures; Model metrics > Images: the same ten dev pictures at every evaluation",
            "  Experiments       select runs, Compare: parallel coordinates, metrics side by side",
            "  Models            regioncap-*: versions; alias `best` is what `mlflow models serve` serves",
        ]
    )
