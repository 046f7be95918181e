"""A cluster of network namespaces on one machine: nodes, a switch, a client, and faults."""
