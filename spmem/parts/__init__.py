"""The parts that every memory has: the map, the views, the working memory; and what caches of views share."""
