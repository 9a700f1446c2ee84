"""Where a memory lies: a local folder, or a prefix of an object store."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import icechunk

from spmem.errors import InputError, StoreError

_PATIENCE = 5.0  # seconds
_PROXIES = {"http_proxy", "https_proxy", "all_proxy"}


@dataclass(frozen=True)
class StoreLocation:
    """A local folder, or a prefix of a bucket (``folder`` is None then). ``str`` is what the user wrote."""

    address: str
    folder: Path | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.address if self.folder is None else str(self.folder)

    def storage(self) -> icechunk.Storage:
        """Icechunk's access to it. Raises InputError where options or address are not what the store takes."""
        if self.folder is not None:
            return icechunk.local_filesystem_storage(str(self.folder))
        url = urlsplit(self.address)
        try:
            return _STORES[url.scheme](url.netloc, url.path.strip("/"), dict(self.options))
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.address}: {error}") from error

    def require_answer(self) -> None:
        """Raise StoreError where no server answers at the endpoint: Icechunk would try again for half a minute."""
        endpoint = _endpoint(self.options) if self.address.startswith("s3://") else None
        if endpoint is None or any(name.lower() in _PROXIES for name in os.environ):
            return
        url = urlsplit(endpoint)
        try:
            where = (url.hostname or "", url.port or (80 if url.scheme == "http" else 443))
            socket.create_connection(where, timeout=_PATIENCE).close()
        except (OSError, ValueError) as error:
            raise StoreError(f"{self}: no server answers at {endpoint} ({error})") from error


def parse_location(
    path: str | PathLike[str], options: Mapping[str, Any] | None = None
) -> StoreLocation:
    """The location that a path or an address names.

    Args:
        path: A local folder (``file://`` too), or ``s3://``, ``gs://``, ``az://`` with bucket (container) and prefix.
        options: Keyword arguments of Icechunk's storage of that kind: ``endpoint_url``, ``region``,
            ``access_key_id``, … What is not given comes from the environment, as with the store's own tools.

    Raises:
        InputError: A path that no file can have, an address of another kind, without a bucket or a prefix, or options
            for a local folder.
    """
    address = fspath(path)
    if not isinstance(address, str) or "\0" in address:
        raise InputError(f"a memory's path is text without NUL, got {address!r}")
    scheme, options = urlsplit(address).scheme if "://" in address else "file", options or {}
    if scheme == "file":
        if options:
            raise InputError(f"a local folder takes no storage options, got {sorted(options)}")
        folder = Path(address.removeprefix("file://")).expanduser().absolute()
        return StoreLocation(address, folder)
    if scheme not in _STORES:
        raise InputError(
            f"{address!r}: memories live in local folders and under {', '.join(f'{s}://' for s in _STORES)}"
        )
    url = urlsplit(address)
    if not url.netloc or not url.path.strip("/"):
        raise InputError(f"{address!r}: wanted {scheme}://bucket/prefix")
    return StoreLocation(address, None, options)


def _s3(bucket: str, prefix: str, options: dict[str, Any]) -> icechunk.Storage:
    environment = os.environ
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    options = {"region": region, **options, "endpoint_url": _endpoint(options)}
    if options["endpoint_url"]:  # another server than Amazon's, which has no name for each bucket
        plain = options["endpoint_url"].startswith("http://")
        options = {"allow_http": plain, "force_path_style": True, **options}
        options["region"] = options["region"] or "us-east-1"
    if "access_key_id" not in options and not options.get("anonymous"):
        options = {"from_env": True, **options}
    return icechunk.s3_storage(bucket=bucket, prefix=prefix, **options)


def _endpoint(options: Mapping[str, Any]) -> str | None:
    """Another server than Amazon's, where one is named."""
    environment = os.environ
    named = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    return options.get("endpoint_url", named) or None


def _gs(bucket: str, prefix: str, options: dict[str, Any]) -> icechunk.Storage:
    options = options or {"from_env": True}
    return icechunk.gcs_storage(bucket=bucket, prefix=prefix, **options)


def _az(container: str, prefix: str, options: dict[str, Any]) -> icechunk.Storage:
    account = options.pop("account", None) or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    options = options or {"from_env": True}
    return icechunk.azure_storage(account=account, container=container, prefix=prefix, **options)


_STORES: dict[str, Callable[[str, str, dict[str, Any]], icechunk.Storage]] = {
    "s3": _s3,
    "gs": _gs,
    "az": _az,
}
