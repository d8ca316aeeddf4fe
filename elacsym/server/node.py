"""From settings to a running database: store, probe, cache, engine and upkeep are put together here only."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from elacsym.clock import SystemClock, system_random
from elacsym.cluster.node import ClusterNode
from elacsym.cluster.open import open_membership
from elacsym.compute import Compute
from elacsym.config import Config
from elacsym.engine.build_process import open_builder
from elacsym.engine.calibrate import Calibrator
from elacsym.engine.database import Database
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.engine.tuning import Tuning
from elacsym.log import bucket
from elacsym.log.settings import LogSettings
from elacsym.server.service import Node
from elacsym.store.base import ObjectStore
from elacsym.store.cache import CachedStore, ObjectCache
from elacsym.store.open import StoreOptions, open_store
from elacsym.store.probe import probe
from elacsym.store.wrapper import keeps_files
from elacsym.telemetry import get_logger
from elacsym.upkeep.supervisor import Upkeep

_log = get_logger("node")


@asynccontextmanager
async def open_node(config: Config, compute: Compute) -> AsyncIterator[Node]:
    """A node's database, with its upkeep, and its part in the cluster, for as long as the block runs.

    Raises UnsafeStore where the store fails the probe, InvalidRequest for a bad storage, StoreUnavailable.
    """
    async with AsyncExitStack() as stack:
        store = open_config_store(config)
        stack.push_async_callback(store.close)
        await _prove(store, config)
        await bucket.ensure(store, system_random())
        cache = ObjectCache(
            store,
            compute=compute,
            # a folder store is mapped in place
            folder=None if keeps_files(store) else Path(config.cache_path),
            disk_bytes_max=config.cache_disk_bytes,
            memory_bytes_max=config.cache_memory_bytes,
        )
        stack.push_async_callback(cache.close)
        clock = SystemClock()
        cluster = ClusterNode.of(
            open_membership(config, store, clock, system_random()),
            clock,
            suspect_s=config.suspect_s,
            liveness_timeout_s=config.liveness_timeout_s,
        )
        stack.push_async_callback(cluster.stop)
        builder = open_builder(compute, Path(config.cache_path) / "build", processes=config.build_processes)
        stack.push_async_callback(builder.close)
        services = Services(
            CachedStore(store, cache),
            cache,
            compute,
            clock,
            system_random(),
            engine_settings(config),
            config.node_id,
            builder,
            Tuning(system_random()),
            cluster.placement,
        )
        database = Database(services)
        stack.push_async_callback(database.close)
        if config.calibration_cpu_share:
            calibrator = Calibrator(
                database, cpu_share=config.calibration_cpu_share, cores=os.cpu_count() or 1
            )
            calibrator.start()
            stack.push_async_callback(calibrator.stop)
        upkeep = Upkeep(
            database,
            period_s=config.upkeep_period_s,
            is_indexer=cluster.membership.own.is_indexer,
            duties=cluster.placement,
        )
        upkeep.start()
        stack.push_async_callback(upkeep.stop)
        # last: whoever learns of this node may send it requests
        await cluster.start()
        yield Node(database, cluster)


def open_config_store(config: Config) -> ObjectStore:
    """The store that the settings name, not yet probed. Raises InvalidRequest, StoreUnavailable."""
    aws = config.aws
    options = StoreOptions(
        endpoint_url=aws.endpoint_url,
        region=aws.region,
        access_key_id=aws.access_key_id,
        secret_access_key=aws.secret_access_key,
        session_token=aws.session_token,
        profile=aws.profile,
    )
    return open_store(config.storage, options=options, clock=SystemClock(), rng=system_random())


def engine_settings(config: Config) -> EngineSettings:
    """The engine's part of the settings."""
    return EngineSettings(
        log=LogSettings(gc_grace_s=config.gc_grace_s, unfolded_bytes_max=config.unindexed_bytes_max),
        fold_bytes=config.fold_bytes,
        fold_slots=config.fold_slots,
        fold_age_s=config.fold_age_s,
        gc_grace_s=config.gc_grace_s,
        open_namespaces_max=config.open_namespaces_max,
        namespace_idle_s=config.namespace_idle_s,
    )


async def _prove(store: ObjectStore, config: Config) -> None:
    report = await probe(store, system_random())
    if config.unsafe_single_writer_store and not report.passed:
        _log.warning("the store does not honour conditional writes; only one process may ever use it")
        return
    report.require_safe()
