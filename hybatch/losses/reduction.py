"""Where the gradient is scaled: here, and nowhere else."""

from __future__ import annotations

from torch import Tensor

from hybatch.processes import world_size


def share_of_batch_mean(sum_over_rows: Tensor, num_rows: int) -> Tensor:
    """This process's share of the mean over the global batch, times the number of processes W.

    Every strategy (DDP, ZeRO, FSDP2) averages gradients over the W processes, which have `num_rows` rows each. What a
    process hands over must therefore be W times its part of the mean over all W * num_rows rows:
    W * sum_over_rows / (W * num_rows), in which W cancels. The average of the gradients is then the gradient of that
    mean, and the average of the values the mean itself. To this belongs that gathering sums: `gather_with_gradient`
    brings a row the gradients of all processes' losses, none of them divided.

    With one W too many or too few AdamW hides the mistake, but clipping acts at another norm.

    Args:
        sum_over_rows: scalar, the losses of this process's rows added up.
        num_rows: their number, the same on every process.
    """
    return sum_over_rows / num_rows


def share_of_mean(sum_over_rows: Tensor, number_of_all: Tensor) -> Tensor:
    """The same of a mean over some of the global batch's rows, of which the processes may have unequally many.

    Args:
        sum_over_rows: scalar, the losses of those of this process added up.
        number_of_all: scalar, how many all processes have together; 0 gives 0.
    """
    return sum_over_rows * world_size() / number_of_all.clamp(min=1)
