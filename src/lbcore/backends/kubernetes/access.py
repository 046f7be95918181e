"""Who we are to the API server: kubeconfig or the Pod's own account, read by kubernetes_asyncio's loader.

Nothing is parsed here. Tokens grow old: a Pod's is read anew every minute, what a kubeconfig names (a token
file, a program that prints credentials) when it is a minute old, and when the server no longer takes it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from pathlib import Path
from typing import Any

from attrs import frozen

from lbcore.adapters.kubernetes.announced import Owner
from lbcore.backends.kubernetes.loader import credentials_reader
from lbcore.errors import LbcoreError

__all__ = ["Access", "AccessError", "Credentials", "default_namespace", "own_pod"]

_AGE = 60.0  # seconds
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DEFAULT_NAMESPACE = "metallb-system"


class AccessError(LbcoreError):
    """No way to the API server: the message says what is missing and what to do."""


def default_namespace() -> str:
    """The Pod's own namespace, or MetalLB's."""
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() or _DEFAULT_NAMESPACE
    except OSError:
        return _DEFAULT_NAMESPACE


def own_pod() -> Owner | None:
    """The Pod that this process is in, as the chart's downward API tells it; None outside of one."""
    name, uid = os.environ.get("METALLB_POD_NAME", ""), os.environ.get("LBCORE_POD_UID", "")
    return Owner(name, uid) if name and uid else None


@frozen(kw_only=True)
class Access:
    """Which cluster, and by which credentials: a kubeconfig's path (None: the Pod's own account, else
    KUBECONFIG or ~/.kube/config), and a context of it (None: the current one).
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = _DEFAULT_NAMESPACE

    @property
    def is_in_cluster(self) -> bool:
        """Whether the Pod's own account is meant."""
        return self.kubeconfig is None and self.context is None and "KUBERNETES_SERVICE_HOST" in os.environ

    @property
    def is_known(self) -> bool:
        """Whether there is anything to go by."""
        given = self.kubeconfig is not None or self.is_in_cluster or bool(os.environ.get("KUBECONFIG"))
        return given or (Path.home() / ".kube" / "config").is_file()

    def __str__(self) -> str:
        if self.is_in_cluster:
            return "the Pod's own API server"
        return f"{self.kubeconfig or 'kubeconfig'}{f' ({self.context})' if self.context else ''}"


class _Given:
    """What the reader of credentials fills in, by the names that its own client has for it."""

    def __init__(self) -> None:
        self.host = ""
        self.api_key: dict[str, str] = {}
        self.ssl_ca_cert: str | None = None
        self.cert_file: str | None = None
        self.key_file: str | None = None
        self.verify_ssl = True
        self.tls_server_name: str | None = None


class Credentials:
    """What a request needs. `load` first; `header` and `tls` are then as fresh as they have to be."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._configuration = _Given()
        self._loaded_at = 0.0
        self._loading = asyncio.Lock()
        self._tls_of: tuple[Any, ...] = ()
        self._tls: ssl.SSLContext | bool = False

    @property
    def url(self) -> str:
        """Where the API server is."""
        return self._configuration.host

    @property
    def server_name(self) -> str | None:
        """The name that its certificate is for, if not the one in the URL."""
        return self._configuration.tls_server_name or None

    async def header(self, *, anew: bool = False) -> dict[str, str]:
        """What says who we are; `anew` after the server refused the last one. Raises `AccessError`."""
        if self._is_stale(anew=anew):
            async with self._loading:
                if self._is_stale(anew=anew):  # or another has loaded them meanwhile
                    now = time.monotonic()
                    await self._load()
                    self._loaded_at = now
        key = self._configuration.api_key.get("BearerToken")
        return {"Authorization": str(key).strip()} if key else {}

    def _is_stale(self, *, anew: bool) -> bool:
        return not self._configuration.host or time.monotonic() - self._loaded_at > (1.0 if anew else _AGE)

    def tls(self) -> ssl.SSLContext | bool:
        """How to speak TLS; the same object as long as the certificates are the same files."""
        config = self._configuration
        files = (config.ssl_ca_cert, config.cert_file, config.key_file, config.verify_ssl)
        if files != self._tls_of:
            self._tls, self._tls_of = _context(config), files
        return self._tls

    async def _load(self) -> None:
        access, config, configuration = self._access, credentials_reader(), _Given()
        try:
            if access.is_in_cluster:
                config.load_incluster_config(client_configuration=configuration, try_refresh_token=False)
            else:
                await config.load_kube_config(
                    config_file=_kubeconfig(access.kubeconfig),
                    context=access.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
            if not configuration.host:
                raise ValueError("its cluster has no field server; write there the URL of the API server")
            self._configuration = configuration
            self.tls()
        except (config.ConfigException, OSError, ValueError, AssertionError, TypeError, AttributeError) as error:
            raise AccessError(_why(access, error)) from None


def _kubeconfig(given: Path | None) -> str:
    paths = str(given) if given is not None else os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if not any(Path(each).expanduser().is_file() for each in paths.split(os.pathsep) if each):
        what = "" if given is not None else ", not in a Pod,"
        raise OSError(f"there is no file {paths}{what}: name one with --kubeconfig, or a folder with --cluster")
    return paths


def _why(access: Access, error: Exception) -> str:
    where = "the Pod's service account" if access.is_in_cluster else str(access.kubeconfig or "kubeconfig")
    # The loader's words name fields and files; contents (keys, tokens) are not in them.
    return f"{where}: {str(error) or type(error).__name__}"


def _context(config: _Given) -> ssl.SSLContext | bool:
    if not config.host.startswith("https"):
        return False
    context = ssl.create_default_context(cafile=config.ssl_ca_cert or None)
    if config.cert_file:
        context.load_cert_chain(config.cert_file, keyfile=config.key_file)
    if config.verify_ssl is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
