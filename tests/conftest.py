"""Fixtures that several folders of tests share."""

from __future__ import annotations

from support.s3_servers import ceph_server, moto_server

__all__ = ["ceph_server", "moto_server"]
