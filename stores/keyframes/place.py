"""Where a memory lies: a local folder, or a prefix of an object store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import icechunk

from spmem.errors import InputError


@dataclass(frozen=True)
class Place:
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


def place(path: str | PathLike[str], options: Mapping[str, Any] | None = None) -> Place:
    """The place that a path or an address names.

    Args:
        path: A local folder (``file://`` too), or ``s3://``, ``gs://``, ``az://`` with bucket (container) and prefix.
        options: Keyword arguments of Icechunk's storage of that kind: ``endpoint_url``, ``region``,
            ``access_key_id``, … What is not given comes from the environment, as with the store's own tools.

    Raises:
        InputError: An address of another kind, without a bucket or a prefix, or options for a local folder.
    """
    address = fspath(path)
    scheme, options = urlsplit(address).scheme if "://" in address else "file", options or {}
    if scheme == "file":
        if options:
            raise InputError(f"a local folder takes no storage options, got {sorted(options)}")
        folder = Path(address.removeprefix("file://")).expanduser().absolute()
        return Place(address, folder)
    if scheme not in _STORES:
        raise InputError(
            f"{address!r}: memories live in local folders and under {', '.join(f'{s}://' for s in _STORES)}"
        )
    url = urlsplit(address)
    if not url.netloc or not url.path.strip("/"):
        raise InputError(f"{address!r}: wanted {scheme}://bucket/prefix")
    return Place(address, None, options)


def _s3(bucket: str, prefix: str, options: dict[str, Any]) -> icechunk.Storage:
    environment = os.environ
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    options = {"endpoint_url": endpoint, "region": region, **options}
    if options["endpoint_url"]:  # another server than Amazon's, which has no name for each bucket
        plain = options["endpoint_url"].startswith("http://")
        options = {"allow_http": plain, "force_path_style": True, **options}
        options["region"] = options["region"] or "us-east-1"
    if "access_key_id" not in options and not options.get("anonymous"):
        options = {"from_env": True, **options}
    return icechunk.s3_storage(bucket=bucket, prefix=prefix, **options)


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
