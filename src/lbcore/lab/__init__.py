"""A cluster of network namespaces on one machine: nodes, a switch, a client, and faults."""

from lbcore.lab.client import Answer
from lbcore.lab.cluster import Lab, Program
from lbcore.lab.errors import LabError, LabUnavailable
from lbcore.lab.network import Neighbour, Station
from lbcore.lab.privileges import ensure_privileges

__all__ = ["Answer", "Lab", "LabError", "LabUnavailable", "Neighbour", "Program", "Station", "ensure_privileges"]
