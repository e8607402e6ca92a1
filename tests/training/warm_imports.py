"""What the server of warm_process loads before it forks; nothing here may start a thread."""

import accelerate.tracking  # noqa: F401
import datasets  # noqa: F401
from transformers import AutoModel, AutoTokenizer, XLMRobertaModel  # noqa: F401

import hybatch.train
import hybatch.training.config
import hybatch.training.run.launch
import hybatch.training.run.loop  # noqa: F401
