"""S3 servers for tests: moto in a thread, and Ceph where it can run. Fixtures of the session.

`moto_server` and `ceph_server` give an S3Server: endpoint, keys, and a bucket that exists. Crash tests hand
`server.environment` to the processes they start.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest
from botocore.config import Config
from support.ceph import Ceph, why_unavailable

from elacsym.store.s3 import S3Store


@dataclass(frozen=True)
class S3Server:
    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    bucket: str = "elacsym-test"
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
        }

    def store(self, prefix: str = "", **options) -> S3Store:
        return S3Store(
            self.bucket,
            prefix,
            endpoint_url=self.endpoint_url,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            **options,
        )

    def create_bucket(self) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=self.bucket)
        client.close()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    from moto.server import ThreadedMotoServer

    threaded = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    server = S3Server(f"http://{host}:{port}", "test", "test")
    server.create_bucket()
    yield server
    with urllib.request.urlopen(f"{server.endpoint_url}/moto-api/reset", data=b""):
        pass
    threaded.stop()


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    missing = why_unavailable()
    if missing is not None:
        if os.environ.get("ELACSYM_REQUIRE_CEPH") == "1":
            pytest.fail(f"ELACSYM_REQUIRE_CEPH is set, but {missing}")
        pytest.skip(missing)
    with Ceph(tmp_path_factory.mktemp("ceph")) as ceph:
        server = S3Server(ceph.endpoint_url, ceph.access_key_id, ceph.secret_access_key)
        server.create_bucket()
        yield server
