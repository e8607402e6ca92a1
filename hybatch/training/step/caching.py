"""Loss and gradients of a step, whole or chunk by chunk, with the same result.

Plain: one forward over all chunks with the graph kept, one backward.

Cached (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): encode without
graph, compute the loss and the gradient of every embedding once, then encode chunk by chunk again, with the same
dropout, and send the embedding gradients through. The last chunk is not encoded again: its graph is the first to be
held, and it is the chunk of the longest passages, so that what is saved is more than its share of the texts.

Either way each process takes part in one gather forward and one backward, however many chunks there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hybatch.losses import Loss, LossTerms, TrainingLoss, Translations, both_directions
from hybatch.sampling import KINDS
from hybatch.training.step.batches import LocalBatch
from hybatch.training.strategy import Strategy


def plain_backward(strategy: Strategy, loss: Loss, local: LocalBatch) -> LossTerms:
    """Accumulate the gradients of one step and return this process's loss (see `share_of_batch_mean`), detached."""
    with strategy.accumulating(last=True):
        terms = loss_of_embeddings(loss, local, strategy.encode(local.chunks))
        strategy.backward(terms.loss)
    return terms.detached()


def cached_backward(strategy: Strategy, loss: Loss, local: LocalBatch) -> LossTerms:
    """As `plain_backward`, holding the graph of one chunk at a time."""
    *others, last = local.chunks
    if not others:
        return plain_backward(strategy, loss, local)
    with torch.no_grad():
        embeddings = torch.cat([strategy.encode_without_graph([chunk]) for chunk in others])
    embeddings.requires_grad_()
    with strategy.accumulating(last=False):
        terms = loss_of_embeddings(loss, local, torch.cat([embeddings, strategy.encode([last])]))
        strategy.backward(terms.loss)
    assert embeddings.grad is not None
    gradients = embeddings.grad.split([len(chunk.slots_n) for chunk in others])
    for index, (chunk, gradient) in enumerate(zip(others, gradients, strict=True)):
        with strategy.accumulating(last=index == len(others) - 1):
            # A scalar whose gradient with respect to the embeddings is the one computed above.
            strategy.backward((strategy.encode([chunk]) * gradient).sum())
    return terms.detached()


def loss_of_embeddings(loss: Loss, local: LocalBatch, embeddings: Tensor) -> LossTerms:
    """Put embeddings, given in the order of the chunks, into their slots and compute this process's loss.

    Of a batch whose kind asks both ways the loss counts both directions, whatever it does by itself.
    """
    if KINDS[local.batch.kind].asks_both_ways:
        loss = both_directions(loss)
    num_rows = len(local.groups_Q)
    num_slots = 0 if local.negative_groups_QN is None else local.negative_groups_QN.shape[1]
    slots = torch.cat([chunk.slots_n for chunk in local.chunks])
    num_further = 0 if local.further is None else local.further.num_slots
    sizes = [num_rows, num_rows, num_rows * num_slots, num_further, 0 if local.translated_A is None else num_rows]
    block = embeddings.new_zeros(sum(sizes), embeddings.shape[1]).index_copy(0, slots, embeddings)
    queries, passages, negatives, others, translations = block.split(sizes)
    compared = (queries, passages, negatives.view(num_rows, num_slots, -1) if num_slots else None)
    groups: dict[str, Any] = {"groups_Q": local.groups_Q, "negative_groups_QN": local.negative_groups_QN}
    if local.further is not None:
        groups["further"] = local.further.with_passages(others)
    if not local.has_terms:
        return LossTerms(loss(*compared, **groups))
    assert isinstance(loss, TrainingLoss)
    translated_A, translated = local.translated_A, None
    if translated_A is not None:
        translated = Translations(embeddings_AH=translations[translated_A], translated_A=translated_A)
    return loss.terms(*compared, **groups, translations=translated, guide=local.guide, scores_QM=local.scores_QM)
