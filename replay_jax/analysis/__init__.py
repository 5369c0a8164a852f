"""From result records to efficiency curves, a recommendation and a report."""
