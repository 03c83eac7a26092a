"""A stand-in for S3 on this machine, by moto, for tests of what lies on an object store."""

import contextlib
import logging
import urllib.request
from collections.abc import Iterator

import pytest

_AS_NOBODY = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
_OF_SOMEBODY = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """Inside, the address that is yielded is an empty bucket, for this process and those that it starts.

    Once a process only: the packages that reach S3 keep their connection.
    """
    pytest.importorskip("s3fs", reason="s3:// is reached by s3fs, of the extra `s3`")
    server = pytest.importorskip("moto.server", reason="moto, of the extra `dev`, stands in for S3")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            host, port = running.get_host_and_port()
            url = f"http://{host}:{port}"
            for name, value in {"AWS_ENDPOINT_URL": url, "AWS_ENDPOINT_URL_S3": url, **_AS_NOBODY}.items():
                patch.setenv(name, value)
            for name in _OF_SOMEBODY:
                patch.delenv(name, raising=False)
            _put(f"{url}/bucket")
            yield "s3://bucket"
    finally:
        running.stop()


def _put(url: str) -> None:
    request = urllib.request.Request(url, method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=300) as answer:
        answer.read()
