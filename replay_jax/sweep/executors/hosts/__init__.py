"""All hosts of a slice on one edge at a time, without Ray."""
