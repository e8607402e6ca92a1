"""What torch.compile must know of the compiled ops: the shapes and dtypes that they return."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def register_ranking_fakes() -> None:
    @torch.library.register_fake("hybatch::pair_scores")
    def _(
        queries: Tensor,
        positive_embeddings: Tensor,
        offsets: Tensor,
        precision: str,
        positive_rows: Tensor | None = None,
    ) -> Tensor:
        positives = positive_embeddings if positive_rows is None else positive_rows
        return queries.new_empty(positives.shape[0], dtype=torch.float32)

    @torch.library.register_fake("hybatch::count_above_")
    @torch.library.register_fake("hybatch::count_and_keep_")
    def _(*args: Any) -> None:
        return None


def register_contrastive_fakes() -> None:
    def like(rows: Tensor, *shape: int) -> Tensor:
        return rows.new_empty(shape, dtype=torch.float32)

    def gradients(queries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return like(queries, *queries.shape), like(queries, *candidates.shape), like(queries)

    @torch.library.register_fake("hybatch::contrastive_forward")
    def _(
        queries: Tensor,
        candidates: Tensor,
        positive_index: Tensor,
        query_groups: Tensor,
        candidate_groups: Tensor,
        scale: Tensor,
        want_columns: bool,
        left_out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_columns = candidates.shape[0] if want_columns else 0
        return like(queries, queries.shape[0]), like(queries, queries.shape[0]), like(queries, num_columns)

    @torch.library.register_fake("hybatch::contrastive_backward")
    def _(queries: Tensor, candidates: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        return gradients(queries, candidates)

    @torch.library.register_fake("hybatch::contrastive_forward_backward")
    def _(queries: Tensor, candidates: Tensor, *args: Any) -> tuple[Tensor, ...]:
        return like(queries, queries.shape[0]), like(queries, queries.shape[0]), *gradients(queries, candidates)


def register_tile_fakes() -> None:
    @torch.library.register_fake("hybatch::contrastive_add_sums_")
    @torch.library.register_fake("hybatch::contrastive_known_weights_")
    @torch.library.register_fake("hybatch::contrastive_loss_weights_")
    def _(*args: Any) -> None:
        return None
