"""The tables of a grid."""
