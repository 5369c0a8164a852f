"""Where edges are trained: processes of this machine, hosts, or a Ray cluster."""
