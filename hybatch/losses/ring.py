"""The terms of the contrastive loss over the candidates of all processes, none of which ever holds them all.

Each process keeps its queries. Blocks of candidates pass round the ring of processes, always to the next rank, so that
after as many steps as there are processes every block has met all queries; the next block travels while the products of
the one at hand are computed. The backward pass sends the blocks round once more, and behind each the gradient that it
has collected so far, which comes home last.

Terms of several widths are computed of each block as it passes, from its leading dimensions: the blocks go round once.

Shape suffixes: Q queries of this process, D candidates of each process, H embedding width, W processes, K widths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.truncation import joined_gradient, truncate
from hybatch.ops.contrastive import ContrastiveTerms
from hybatch.ops.contrastive.backend import ContrastiveOps
from hybatch.ops.contrastive.loss import choose_ops, prepare
from hybatch.ops.contrastive.trials import CONTRASTIVE_TERMS
from hybatch.ops.products import float32_products
from hybatch.processes import rank, world_size

_BLOCK_TAG, _GRADIENT_TAG = 0, 8
"""First tags of the two kinds of messages, which are under way at the same time."""


def ring_terms(inputs: ContrastiveInputs, *, columns: bool = False) -> ContrastiveTerms:
    """`contrastive_terms` of this process's queries and the joined candidates of all processes, in rank order.

    Collective, the backward pass too: every process calls it with the same shapes and dtypes. The process group is the
    default one, of two processes or more.

    Args:
        inputs: queries and candidates of this process, the queries' positives among them; float32, bfloat16, float16 or
            float64.
        columns: whether to give column_lse_D.

    Returns:
        row_lse_Q over the candidates of all processes; positive_logit_Q; column_lse_D, [W * D], every candidate's over
        the queries of this process. float32 (float64 for float64); they can be differentiated once. When process r
        holds loss L_r, the gradient that arrives at each process's rows is that of L_0 + L_1 + ..., as with
        `gather_with_gradient`.

    Values are not checked: embeddings that are not finite make terms that are not.

    Memory: three blocks of candidates, backward also three of their gradients in float32; never W * D x H. Bitwise
    repeatable on the same number of processes and threads.
    """
    (terms,) = ring_terms_of_widths(inputs, [inputs.queries_QH.shape[1]], columns=columns)
    return terms


def ring_terms_of_widths(
    inputs: ContrastiveInputs, widths: Sequence[int], *, columns: bool = False
) -> list[ContrastiveTerms]:
    """`ring_terms` of the leading dimensions of the embeddings (`truncation`), for each of several widths.

    Args:
        widths: the embeddings' own, and lesser ones.
    """
    pairs = prepare(
        inputs.queries_QH,
        inputs.candidates_DH,
        inputs.positive_index_Q,
        inputs.query_groups_Q,
        inputs.candidate_groups_D,
        inputs.temperature,
        validate=False,
    )
    row_lse_KQ, positive_logit_KQ, column_lse_KWD = _RingTerms.apply(
        *pairs, inputs.left_out_QB, columns, choose_ops(pairs[0], CONTRASTIVE_TERMS), widths
    )
    return [
        ContrastiveTerms(row_lse_Q, positive_logit_Q, column_lse_WD.flatten() if columns else None)
        for row_lse_Q, positive_logit_Q, column_lse_WD in zip(
            row_lse_KQ, positive_logit_KQ, column_lse_KWD, strict=True
        )
    ]


class _RingTerms(torch.autograd.Function):
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
        columns: bool,
        ops: ContrastiveOps,
        widths: Sequence[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = [truncate(queries, width).rows_NM for width in widths]
        row_lse = scale.new_empty(len(widths), world_size(), len(queries))
        column_lse = scale.new_empty(len(widths), world_size(), len(candidates) if columns else 0)
        positive_logit = scale.new_zeros(len(widths), len(queries))
        for home, block, groups in passing_blocks(candidates, candidate_groups):
            index = index_in_block(positive_index, home)
            for place, width in enumerate(widths):
                rows = truncate(block, width).rows_NM
                with float32_products(queries.device):
                    row_lse[place, home], positives, column_lse[place, home] = ops.forward(
                        own[place], rows, index, query_groups, groups, scale, columns, pairs_of_block(left_out, home)
                    )
                positive_logit[place] += positives
            del block, rows  # or they would live until the block after the next has arrived
        # Relative to the largest of them; the same order on every process.
        row_lse = torch.stack([of_homes.logsumexp(0) for of_homes in row_lse])
        ctx.ops, ctx.widths = ops, widths
        ctx.save_for_backward(
            queries, candidates, scale, positive_index, query_groups, candidate_groups, left_out, row_lse, column_lse
        )
        return row_lse, positive_logit, column_lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_row_lse: Tensor, grad_positive: Tensor, grad_column_lse: Tensor) -> tuple[Any, ...]:
        queries, candidates, scale, positive_index, query_groups, candidate_groups, left_out, row_lse, column_lse = (
            ctx.saved_tensors
        )
        grad_row_lse, grad_positive, grad_column_lse = (
            grad.contiguous() for grad in (grad_row_lse, grad_positive, grad_column_lse)
        )
        own = [truncate(queries, width) for width in ctx.widths]
        grad_own = [torch.zeros_like(cut.rows_NM, dtype=scale.dtype) for cut in own]

        def gradient_of_block(home: int, block: Tensor, groups: Tensor) -> Tensor:
            index, bits = index_in_block(positive_index, home), pairs_of_block(left_out, home)

            def by_leading_dimensions(place: int) -> Tensor:
                cut = truncate(block, ctx.widths[place])
                pairs = (own[place].rows_NM, cut.rows_NM, index, query_groups, groups, scale)
                of_rows = (row_lse[place], grad_row_lse[place], grad_positive[place])
                of_columns = (column_lse[place, home], grad_column_lse[place, home])
                with float32_products(queries.device):
                    share, gradient, _ = ctx.ops.backward(*pairs, *of_rows, *of_columns, bits)
                grad_own[place].add_(share)
                return cut.gradient(gradient)

            return joined_gradient(map(by_leading_dimensions, range(len(own))))

        grad_candidates = collect_gradients(candidates, candidate_groups, gradient_of_block)
        grad_queries = joined_gradient(cut.gradient(grad) for cut, grad in zip(own, grad_own, strict=True))
        gradients = (grad_queries.to(queries.dtype), grad_candidates.to(candidates.dtype))
        return *gradients, None, None, None, None, None, None, None, None


def collect_gradients(
    candidates: Tensor, groups: Tensor, gradient_of_block: Callable[[int, Tensor, Tensor], Tensor]
) -> Tensor:
    """Send the blocks round, and behind each the gradient that it has collected so far, which comes home last.

    Args:
        candidates, groups: this process's block.
        gradient_of_block: of the rank that a block belongs to, the block and its groups, this process's share of its
            gradient, as a new tensor.

    Returns:
        what all processes have for this process's block, added up.
    """
    # Of the block before this one, with this process's share: it follows its block.
    previous: Tensor | None = None
    for home, block, its_groups in passing_blocks(candidates, groups):
        passing = None if previous is None else _pass_on([previous], _GRADIENT_TAG)
        gradient = gradient_of_block(home, block, its_groups)
        if passing is not None:
            gradient += passing.wait()[0]
        previous = gradient
        del block
    assert previous is not None
    (own,) = _pass_on([previous], _GRADIENT_TAG).wait()
    return own


def index_in_block(positive_index: Tensor, home: int) -> Tensor:
    """Positives stand in the own block; -1 says that they are not in this one."""
    return positive_index if home == rank() else torch.full_like(positive_index, -1)


def pairs_of_block(left_out: Tensor | None, home: int) -> Tensor | None:
    """The pairs that take no part with the block of a rank, see `ContrastiveInputs.left_out_QB`."""
    return None if left_out is None else left_out[home]


def passing_blocks(candidates: Tensor, groups: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield every process's block once, the own one first, with the rank that it belongs to.

    While the caller computes with a block, it goes on to the next process and the following one arrives.
    """
    block: Sequence[Tensor] = (candidates, groups)
    for step in range(world_size()):
        passing = _pass_on(block, _BLOCK_TAG) if step + 1 < world_size() else None
        yield (rank() - step) % world_size(), block[0], block[1]
        if passing is not None:
            block = passing.wait()


class _Passing:
    """Tensors on their way. What is sent must live until it has left, and no longer."""

    def __init__(self, sent: Sequence[Tensor], received: Sequence[Tensor], works: list[dist.Work]) -> None:
        self._sent, self._received, self._works = sent, received, works

    def wait(self) -> Sequence[Tensor]:
        """What has arrived; to be called once."""
        for work in self._works:
            work.wait()
        received = self._received
        self._sent, self._received, self._works = (), (), []  # the works hold the tensors, too
        return received


def _pass_on(tensors: Sequence[Tensor], first_tag: int) -> _Passing:
    """Start sending tensors to the next process and receiving their like from the previous one.

    Sends and receives are posted together, so that no process waits for another to post first.
    """
    received = [torch.empty_like(tensor) for tensor in tensors]
    following, preceding = (rank() + 1) % world_size(), (rank() - 1) % world_size()
    operations = []
    for tag, (mine, theirs) in enumerate(zip(tensors, received, strict=True), first_tag):
        operations.append(dist.P2POp(dist.isend, mine, following, tag=tag))
        operations.append(dist.P2POp(dist.irecv, theirs, preceding, tag=tag))
    return _Passing(tensors, received, dist.batch_isend_irecv(operations))
