"""All hosts of a slice on one edge at a time, without Ray.

Other rooms read `edges` (HostEdges), `member` (HostMember), `others` (Hosts, LostHost).
"""
