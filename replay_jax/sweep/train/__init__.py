"""In the process that has the devices: one edge from its start to its end."""
