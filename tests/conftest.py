import os

import torch

# Before anything of the project is imported: no network, no telemetry, one thread for models this small.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("MLFLOW_TRACKING_URI", None)
torch.set_num_threads(1)
