"""Indices that find candidate views in sub-linear time."""
