"""How gradients flow through the contrastive ops. Differentiating them twice is refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybatch.ops.contrastive.backend import ContrastiveOps
from hybatch.ops.products import float32_products


class Terms(torch.autograd.Function):
    """Log-sum-exps and the positives' logits; the backward pass computes the logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        candidates: Tensor,
        scale: Tensor,
        positive_index: Tensor,
        query_groups: Tensor,
        candidate_groups: Tensor,
        left_out: Tensor | None,
        want_columns: bool,
        ops: ContrastiveOps,
    ) -> tuple[Tensor, ...]:
        pairs = (queries, candidates, positive_index, query_groups, candidate_groups, scale)
        with float32_products(queries.device):
            row_lse, positive_logit, column_lse = ops.forward(*pairs, want_columns, left_out)
        ctx.ops = ops
        ctx.save_for_backward(*pairs, left_out, row_lse, column_lse)
        return row_lse, positive_logit, column_lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_row_lse: Tensor, grad_positive: Tensor, grad_column_lse: Tensor) -> tuple[Any, ...]:
        *pairs, left_out, row_lse, column_lse = ctx.saved_tensors
        upstream = (grad.contiguous() for grad in (grad_row_lse, grad_positive, grad_column_lse))
        grad_row_lse, grad_positive, grad_column_lse = upstream
        with float32_products(row_lse.device):
            gradients = ctx.ops.backward(
                *pairs, row_lse, grad_row_lse, grad_positive, column_lse, grad_column_lse, left_out
            )
        queries, candidates, *_, scale = pairs
        cast = (grad.to(tensor.dtype) for grad, tensor in zip(gradients, (queries, candidates, scale), strict=True))
        wanted = (grad if want else None for grad, want in zip(cast, ctx.needs_input_grad, strict=False))
        return *wanted, None, None, None, None, None, None


class SummedLoss(torch.autograd.Function):
    """Sum of row_lse - positive_logit; its gradients, known up to a factor, are formed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        candidates: Tensor,
        scale: Tensor,
        positive_index: Tensor,
        query_groups: Tensor,
        candidate_groups: Tensor,
        left_out: Tensor | None,
        ops: ContrastiveOps,
    ) -> Tensor:
        pairs = (queries, candidates, positive_index, query_groups, candidate_groups, scale)
        with float32_products(queries.device):
            row_lse, positive_logit, *gradients = ops.forward_backward(*pairs, left_out)
        wanted = ctx.needs_input_grad[:3]
        ctx.save_for_backward(*(grad if want else None for grad, want in zip(gradients, wanted, strict=True)))
        ctx.dtypes = (queries.dtype, candidates.dtype, scale.dtype)
        return (row_lse - positive_logit).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        # Scaled in float32: the gradient of a sum may not fit into the embeddings' 16 bits.
        gradients = (
            None if gradient is None else (gradient * upstream).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return *gradients, None, None, None, None, None
