"""`lbcore crds`: the definitions of the custom resources, to be given to `kubectl apply`."""

from __future__ import annotations

import click

from lbcore.adapters.kubernetes.crds import definitions
from lbcore.adapters.kubernetes.writing import documents_text

__all__ = ["crds_command"]


@click.command("crds")
def crds_command() -> None:
    """Print the CustomResourceDefinitions of metallb.io as YAML.

    For `lbcore crds | kubectl apply --server-side -f -`. Kubernetes 1.31 or newer takes them. They are
    the same as in the Helm chart; manifests written for MetalLB fit them.
    """
    click.echo(documents_text(definitions()), nl=False)
