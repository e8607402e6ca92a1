"""Heatmaps and curves, as PNG and SVG."""
