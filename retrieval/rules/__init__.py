"""The rules of retrieval: each published method in a file of its own."""
