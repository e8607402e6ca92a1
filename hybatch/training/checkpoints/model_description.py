"""What makes weights belong to an encoder, so that a checkpoint of another one is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hybatch.models import Encoder


def describe_model(encoder: Encoder) -> dict[str, Any]:
    """What makes an encoder's weights belong to it: its backbone's configuration and its vocabulary.

    A local backbone keeps its path when its content is exchanged, so that the run's configuration does not tell.
    """
    config = json.loads(encoder.backbone.config.to_json_string(use_diff=True))
    unrelated = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    fields = {name: value for name, value in sorted(config.items()) if name not in unrelated}
    vocabulary = json.dumps(sorted(encoder.tokenizer.get_vocab().items()), ensure_ascii=False)
    return {**fields, "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest()[:16]}
