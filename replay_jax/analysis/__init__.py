"""From result records to efficiency curves and a recommendation."""
