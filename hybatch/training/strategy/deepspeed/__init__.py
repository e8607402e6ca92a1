"""ZeRO through DeepSpeed: the strategy, the options that a file may give it, its checkpoints read by name."""
