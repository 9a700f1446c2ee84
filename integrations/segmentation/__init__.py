"""Segmenters of what moves."""
