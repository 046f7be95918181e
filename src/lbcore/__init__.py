"""lbcore: load balancing for Kubernetes clusters on your own machines, as a library."""

__version__ = "0.1.0"
