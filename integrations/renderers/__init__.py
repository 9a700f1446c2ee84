"""Further renderers of surfels."""
