"""From result records to comparisons between cells."""
