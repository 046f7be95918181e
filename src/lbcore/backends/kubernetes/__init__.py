"""A cluster on the Kubernetes API: a source and a sink like those of a folder."""

from lbcore.backends.kubernetes.access import Access, default_namespace
from lbcore.backends.kubernetes.cluster import KubernetesCluster
from lbcore.backends.kubernetes.gossiping import GossipMembers
from lbcore.backends.kubernetes.ingresses import Election, IngressCluster
from lbcore.backends.kubernetes.members import LeaseMembers

__all__ = [
    "Access",
    "Election",
    "GossipMembers",
    "IngressCluster",
    "KubernetesCluster",
    "LeaseMembers",
    "default_namespace",
]
