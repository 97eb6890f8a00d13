"""Storage: the rows of each kind, and what the writer remembers of them between batches."""
