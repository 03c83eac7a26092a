"""Arrays on s3:// in Orbax's checkpoints.

Orbax writes arrays by TensorStore, which has a driver for S3, but Orbax names those for local files and gs:// only. It
asks one function for the description of each store that it opens; here that function learns s3://: it describes the
same objects on gs://, and the driver is changed. The layout of a checkpoint is the same on each.
"""

import functools
import os
from typing import Any

from dnabert_jax.errors import InputError

_DRIVERS_OF_GS = ("gcs", "gcs_grpc")


@functools.cache
def teach() -> None:
    """Lets Orbax write and read arrays on s3://; again does nothing.

    Raises:
      InputError: an Orbax that has no such function, or only renames folders.
    """
    try:
        from orbax.checkpoint import options
        from orbax.checkpoint._src.serialization import tensorstore_utils

        original = tensorstore_utils.build_kvstore_tspec
        options.AtomicityOptions  # noqa: B018 - whether a checkpoint can be written without renaming folders
    except (ImportError, AttributeError):
        raise InputError(
            "this version of orbax-checkpoint cannot be taught s3://; expected 0.12.8, or a workdir on gs:// or a disk"
        ) from None

    @functools.wraps(original)
    def build(directory: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        scheme, _, rest = str(directory).partition(":/")
        if scheme != "s3":
            return original(directory, *arguments, **options)
        return _on_s3(original(f"gs://{rest.lstrip('/')}", *arguments, **options))

    tensorstore_utils.build_kvstore_tspec = build


def _on_s3(spec: Any) -> Any:
    """A description of a store with every driver for gs:// in it changed for that of s3://."""
    if not isinstance(spec, dict):
        return spec
    if spec.get("driver") in _DRIVERS_OF_GS:
        return {"driver": "s3", "bucket": spec["bucket"], "path": spec["path"], **_server()}
    return {name: _on_s3(value) for name, value in spec.items()}


def _server() -> dict[str, Any]:
    """Where S3 is, for TensorStore, which does not read these variables; AWS's own where they are not set."""
    server: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        server["endpoint"] = endpoint
    if region:
        server["aws_region"] = region
    if os.environ.get("AWS_ACCESS_KEY_ID"):  # of what else it would try it tells the screen that it is not there
        server["aws_credentials"] = {"type": "environment"}
    return server
