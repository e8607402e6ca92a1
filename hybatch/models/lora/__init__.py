"""LoRA: a frozen backbone, and a low-rank pair of matrices beside each of its linear layers, through peft."""
