"""The bundled generator: a small video diffusion transformer that is conditioned on memory."""
