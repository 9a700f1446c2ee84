"""Maps: surfels, points, and how they are drawn."""
