"""Runs of a grid of samplings, starts and seeds, gathered into tables and figures over seeds, with paired tests."""
