"""LASER-2 from its published files: five bidirectional LSTM layers under a maximum over time."""

from hybatch.models.laser.files import holds_laser, read_laser
from hybatch.models.laser.network import LaserNetwork
from hybatch.models.laser.tokenizer import LaserTokenizer

__all__ = ["LaserNetwork", "LaserTokenizer", "holds_laser", "read_laser"]
