"""Where memory lives: surfel maps, point clouds, keyframe banks."""
