"""Embedders of images and text."""
