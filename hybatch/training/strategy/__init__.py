"""How a step's gradients come together over processes, and where weights and optimizer live.

The training loop knows only `Strategy`. `replicated` (one process, DDP), `deepspeed` (ZeRO-1, -2, -3) and
`fully_sharded` (FSDP2) implement it; `choose` picks by what the launcher prepared.
"""

from hybatch.training.strategy.choose import PreparedEngine, build_strategy, check_strategy, prepared_engine
from hybatch.training.strategy.protocol import Strategy
from hybatch.training.strategy.replicated import ReplicatedStrategy

__all__ = ["PreparedEngine", "ReplicatedStrategy", "Strategy", "build_strategy", "check_strategy", "prepared_engine"]
