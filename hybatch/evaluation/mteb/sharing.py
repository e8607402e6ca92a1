"""mteb on several processes: all run the same tasks, share the encoding, and the first one reads and writes files.

U distinct texts, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.encoding.encode import encode_shares
from hybatch.processes import main_first, rank, run_on_main, world_size


def share_encoding(model: Any) -> None:
    """Have a SentenceTransformer's `encode`, on which its other ways of encoding stand, do a share on every process.

    Each distinct text is encoded once. Batches are cut before they are dealt, so that a text shares its batch, and
    hence its rounding, with the same texts for any number of processes. What is asked for in another form than one
    float32 row a text is encoded by every process alone.
    """
    alone: Callable[..., Any] = model.encode

    def encode(inputs: Any, *arguments: Any, **options: Any) -> Any:
        if arguments or not _is_plain(inputs, options):
            return alone(inputs, *arguments, **options)
        batch_size = options.pop("batch_size", 32)
        texts = sorted(set(inputs), key=lambda text: (-len(text), text))
        cut = range(0, len(texts), batch_size)
        batches = [np.arange(start, min(start + batch_size, len(texts))) for start in cut]
        rows_UH = np.zeros((len(texts), model.get_embedding_dimension()), dtype=np.float32)
        options["show_progress_bar"] = False

        def encode_batch(batch: np.ndarray, _is_idle: bool) -> np.ndarray:
            listed = [texts[i] for i in batch]
            return np.asarray(alone(listed, batch_size=len(listed), **options), dtype=np.float32)

        def name(row: int) -> str:
            return f"the text {texts[row][:80]!r}"

        encode_shares(rows_UH, batches, encode_batch, name=name, model="the model", device=model.device)
        place = {text: row for row, text in enumerate(texts)}
        return rows_UH[[place[text] for text in inputs]]

    model.encode = encode


def _is_plain(inputs: Any, options: dict[str, Any]) -> bool:
    usual = {"output_value": "sentence_embedding", "precision": "float32", "convert_to_numpy": True}
    usual |= {"convert_to_tensor": False, "truncate_dim": None, "pool": None, "device": None}
    if isinstance(inputs, str) or not isinstance(inputs, Sequence) or not inputs:
        return False
    return all(isinstance(one, str) for one in inputs) and all(
        options.get(name, value) == value for name, value in usual.items()
    )


def load_main_first(task: Any) -> None:
    """Have a task's data fetched by the first process, then read by the others from the cache.

    Args:
        task: of mteb; changed where there are several processes.
    """
    if world_size() == 1:
        return
    load: Callable[..., None] = task.load_data

    def load_and_say(**options: Any) -> None:
        try:
            load(**options)
        except OSError as error:
            raise UserError(f"--tasks {task.metadata.name}: its data cannot be read or fetched ({error})") from error

    task.load_data = lambda **options: main_first(lambda: load_and_say(**options))


def shared_cache(mteb: Any, output: Path) -> Any:
    """mteb's ResultCache below `output`, of which all processes see what the first one sees, and it alone writes."""

    class SharedCache(mteb.ResultCache):
        def load_task_result(self, *arguments: Any, **options: Any) -> Any:
            load = super().load_task_result

            def as_plain() -> Any:
                found = load(*arguments, **options)
                return None if found is None else found.to_dict()

            plain = run_on_main(as_plain)
            return None if plain is None else mteb.TaskResult.from_dict(plain)

        def save_to_cache(self, *arguments: Any, **options: Any) -> None:
            if rank() == 0:
                super().save_to_cache(*arguments, **options)

    return SharedCache(output) if world_size() > 1 else mteb.ResultCache(output)
