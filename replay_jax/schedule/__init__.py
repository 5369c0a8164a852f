"""Which source every sequence of a run comes from, in exact integers: pure arithmetic."""
