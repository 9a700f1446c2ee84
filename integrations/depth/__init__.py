"""Depth estimators."""
