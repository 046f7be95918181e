"""`python -m lbcore.lab COMMAND...`: run a command with the privileges that a lab needs, without being root."""

from __future__ import annotations

import sys

from lbcore.lab.errors import LabUnavailable
from lbcore.lab.privileges import become, privileged

if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python -m lbcore.lab COMMAND [ARGUMENT...]")
    try:
        wrapped = privileged(sys.argv[1:])
    except LabUnavailable as error:
        sys.exit(str(error))
    become(wrapped)
