"""View retrieval: which keyframes saw the place that the cameras asked about will see."""
