"""File formats, generators, estimators and viewers of others; each isolated, heavy imports inside."""
