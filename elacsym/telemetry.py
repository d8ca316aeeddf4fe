"""Metrics and logs; the only module that knows Prometheus or structlog."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

REGISTRY = CollectorRegistry()
METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST

_LATENCY_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
_LONG_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

HTTP_REQUESTS = Counter(
    "elacsym_http_requests", "Requests by route and status", ["method", "route", "status"], registry=REGISTRY
)
HTTP_SECONDS = Histogram(
    "elacsym_http_request_seconds",
    "Time from request to answer",
    ["route"],
    buckets=_LATENCY_S,
    registry=REGISTRY,
)
HTTP_IN_FLIGHT_BYTES = Gauge("elacsym_http_body_bytes_in_flight", "Request bodies held", registry=REGISTRY)

COMMITS = Counter(
    "elacsym_commits", "Log entries by outcome: committed, rejected, unknown", ["outcome"], registry=REGISTRY
)
COMMIT_SECONDS = Histogram(
    "elacsym_commit_seconds", "Time from the PUT to the proof", buckets=_LATENCY_S, registry=REGISTRY
)
COMMIT_REQUESTS = Histogram(
    "elacsym_commit_requests",
    "Requests per commit",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    registry=REGISTRY,
)
CLAIMS = Counter("elacsym_claims", "Claims of a log by outcome: won, lost", ["outcome"], registry=REGISTRY)
STEP_DOWNS = Counter(
    "elacsym_step_downs", "Times a writer gave up a log, by reason", ["reason"], registry=REGISTRY
)
BACK_PRESSURE = Counter(
    "elacsym_back_pressure", "Writes refused with 429, by reason", ["reason"], registry=REGISTRY
)
WRITES_PACED = Counter(
    "elacsym_writes_paced_seconds",
    "Seconds that writes waited so that folding keeps up",
    registry=REGISTRY,
)
UNINDEXED_BYTES = Gauge(
    "elacsym_unindexed_bytes", "Log bytes not yet folded, all open namespaces", registry=REGISTRY
)

STORE_OPERATIONS = Counter(
    "elacsym_store_operations",
    "Object store requests by outcome",
    ["operation", "outcome"],
    registry=REGISTRY,
)
STORE_SECONDS = Histogram(
    "elacsym_store_seconds", "Object store request time", ["operation"], buckets=_LATENCY_S, registry=REGISTRY
)
STORE_BYTES = Counter(
    "elacsym_store_bytes", "Object store bytes by direction: in, out", ["direction"], registry=REGISTRY
)
RETRIES = Counter(
    "elacsym_retries", "Repeated attempts by what is repeated", ["operation"], registry=REGISTRY
)

CACHE_REQUESTS = Counter(
    "elacsym_cache_requests",
    "Cache look-ups by tier (structures, memory, disk: units of 8 KiB) and outcome (hit, miss, corrupt)",
    ["tier", "outcome"],
    registry=REGISTRY,
)
CACHE_BYTES = Gauge(
    "elacsym_cache_bytes", "Bytes held by tier (structures, memory, maps, disk)", ["tier"], registry=REGISTRY
)
CACHE_EVICTIONS = Counter("elacsym_cache_evictions", "Evicted entries by tier", ["tier"], registry=REGISTRY)
CACHE_SHARED = Counter(
    "elacsym_cache_shared", "Times a reader waited for bytes that another was fetching", registry=REGISTRY
)

QUERIES = Counter(
    "elacsym_queries",
    "Queries by kind: vector, sparse, text, score, hybrid, order, aggregate",
    ["kind"],
    registry=REGISTRY,
)
OPEN_NAMESPACES = Gauge("elacsym_open_namespaces", "Namespaces held in memory", registry=REGISTRY)
OPERATIONS = Counter(
    "elacsym_operations",
    "Work in the background by outcome: done, failed, abandoned (its node died)",
    ["outcome"],
    registry=REGISTRY,
)
OPERATIONS_RUNNING = Gauge(
    "elacsym_operations_running", "Work in the background under way", registry=REGISTRY
)
BRANCHES = Counter(
    "elacsym_branches", "Namespaces made of others, as branch or copy", ["kind"], registry=REGISTRY
)
UPKEEP_RUNS = Counter(
    "elacsym_upkeep_runs",
    "Background jobs by kind (fold, compact, collect) and outcome",
    ["job", "outcome"],
    registry=REGISTRY,
)
UPKEEP_SECONDS = Histogram(
    "elacsym_upkeep_seconds", "Background job time", ["job"], buckets=_LONG_S, registry=REGISTRY
)
UPKEEP_QUEUED = Gauge(
    "elacsym_upkeep_queued",
    "Jobs that wait for their turn, by kind (fold, compact)",
    ["job"],
    registry=REGISTRY,
)
BUILDS = Counter(
    "elacsym_builds",
    "Segments built by kind (fold, merge), place (pool, process) and outcome (done, failed)",
    ["kind", "place", "outcome"],
    registry=REGISTRY,
)
BUILD_SECONDS = Histogram(
    "elacsym_build_seconds",
    "Time of building a segment, without its upload",
    ["kind", "place"],
    buckets=_LONG_S,
    registry=REGISTRY,
)
CALIBRATIONS = Counter(
    "elacsym_calibrations",
    "Comparisons of sampled queries with exact search, by what came of them: kept, raised, lowered, exact "
    "(there is nothing to calibrate), too_large, failed",
    ["outcome"],
    registry=REGISTRY,
)
CALIBRATION_SECONDS = Histogram(
    "elacsym_calibration_seconds", "Time of one comparison", buckets=_LATENCY_S, registry=REGISTRY
)
CALIBRATION_RECALL = Histogram(
    "elacsym_calibration_recall",
    "Share of the ten nearest neighbours that a sampled query found",
    buckets=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0),
    registry=REGISTRY,
)
SAMPLED_QUERY_BYTES = Gauge("elacsym_sampled_query_bytes", "Sampled queries held", registry=REGISTRY)
WARMINGS = Counter(
    "elacsym_warmings",
    "Namespaces brought into the cache on demand, by outcome: done, failed",
    ["outcome"],
    registry=REGISTRY,
)

CLUSTER_MEMBERS = Gauge(
    "elacsym_cluster_members",
    "Nodes that this one knows, by health: live, draining, silent",
    ["health"],
    registry=REGISTRY,
)
CLUSTER_EPOCHS = Counter(
    "elacsym_cluster_epochs", "Changes of this node's view of the ring", registry=REGISTRY
)
HEARTBEATS = Counter(
    "elacsym_heartbeats",
    "Heartbeats of this node by outcome: sent, failed, displaced (another process took over its id)",
    ["outcome"],
    registry=REGISTRY,
)
HEARTBEATS_CORRUPT = Counter(
    "elacsym_heartbeats_corrupt", "Heartbeats of other nodes that failed their checks", registry=REGISTRY
)
SUSPICIONS = Counter(
    "elacsym_cluster_suspicions",
    "Times another node began to be passed over, by what it was found to be: suspect, draining",
    ["health"],
    registry=REGISTRY,
)
SUSPECT_NODES = Gauge("elacsym_cluster_suspects", "Other nodes that are passed over now", registry=REGISTRY)
REDIRECTS = Counter("elacsym_cluster_redirects", "Writes answered with 307", registry=REGISTRY)
ADOPTIONS = Counter(
    "elacsym_upkeep_adoptions",
    "Namespaces looked at because they fell to this node, by what was found: clean, folded (a tail that "
    "nobody looked after), failed",
    ["outcome"],
    registry=REGISTRY,
)
FORWARDS = Counter(
    "elacsym_cluster_forwards",
    "Writes passed on to another node by outcome: answered, refused (the node was not reached), unavailable "
    "(it broke off before it had all), unknown (after), cut (in its answer), abandoned (by the client)",
    ["outcome"],
    registry=REGISTRY,
)


@dataclass(slots=True)
class Reads:
    """What was brought in. store_requests: ranges and whole objects asked of the store; disk_bytes: checked
    in the cache folder, or in a store that is a folder. Iterates over both sizes in bytes."""

    store_bytes: int = 0
    store_requests: int = 0
    disk_bytes: int = 0

    def __iter__(self) -> Iterator[int]:
        return iter((self.store_bytes, self.disk_bytes))


_reads: ContextVar[Reads | None] = ContextVar("reads", default=None)


@contextmanager
def measured_reads() -> Iterator[Reads]:
    """What is brought in from store or disk in the block and the tasks it starts."""
    reads = Reads()
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def count_read(*, store_bytes: int = 0, store_requests: int = 0, disk_bytes: int = 0) -> None:
    """Tell whoever measures that bytes were brought in from store or disk."""
    reads = _reads.get()
    if reads is not None:
        reads.store_bytes += store_bytes
        reads.store_requests += store_requests
        reads.disk_bytes += disk_bytes


def exposition() -> bytes:
    """All metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)


def get_logger(name: str) -> Any:
    """A structured logger; events are lower-case words, values are keywords.

    Never log a secret or a document.
    """
    return structlog.get_logger(name)


class _StandardError:
    """Standard error as it is when a line is written, which need not be what it was at start."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_events(*, level: str, as_json: bool | None = None) -> None:
    """Write the events of `get_logger` from `level` on to standard error; see `configure_logging`."""
    is_terminal = sys.stderr.isatty()
    is_json = not is_terminal if as_json is None else as_json
    # without local variables in tracebacks: they may hold documents and secrets
    human = structlog.dev.ConsoleRenderer(
        colors=is_terminal, exception_formatter=structlog.dev.plain_traceback
    )
    renderer: Any = structlog.processors.JSONRenderer() if is_json else human
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=False,
    )


def configure_logging(*, level: str = "info", as_json: bool | None = None) -> None:
    """Set up logs on standard error: for people on a terminal, JSON lines elsewhere, or as `as_json` says."""
    configure_events(level=level, as_json=as_json)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s", force=True)


# for programs that only use the package: structlog's own default prints to standard output, with locals
configure_events(level="warning")
