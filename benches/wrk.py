"""Load by `wrk` (Debian's package of that name), a client so lean that the server is what is measured.

The bodies of real queries are sent in turn, over and over.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
local requests, number = {}, 0
function init(arguments)
  local headers = {["Content-Type"] = "application/json"}
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, line)
  end
end
function request()
  number = number % #requests + 1
  return requests[number]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"answers": %d, "took_us": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "broken": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Wrk:
    """What a run saw: answers per second, latencies in ms, answers with a status from 400 on, broken
    connections."""

    rate: float
    answers: int
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int


def run_wrk(
    url: str, bodies: Sequence[bytes], *, connections: int = 8, threads: int = 1, seconds: float = 5.0
) -> Wrk:
    """POST the bodies (one line each) to `url` in turn. Raises RuntimeError where wrk is missing or fails."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        script, lines = Path(name) / "post.lua", Path(name) / "bodies"
        script.write_text(_SCRIPT)
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        load = (f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s")
        ended = subprocess.run(
            [program, *load, "-s", script, url, "--", lines], capture_output=True, text=True, check=False
        )
    found = re.search(r"^RESULT (\{.*\})$", ended.stdout, re.MULTILINE)
    if ended.returncode or found is None:
        raise RuntimeError(f"wrk failed: {ended.stdout[-500:]}{ended.stderr[-500:]}")
    result = json.loads(found[1])
    return Wrk(
        result["answers"] * 1e6 / result["took_us"],
        result["answers"],
        result["p50_us"] / 1000,
        result["p99_us"] / 1000,
        result["refused"],
        result["broken"],
    )


def empty_bodies(bodies: Sequence[bytes]) -> list[bytes]:
    """Bodies of the same sizes that hold nothing: the server reads each one and refuses it at once."""
    return [b" " * len(body) for body in bodies]


@dataclass(frozen=True)
class Comparison:
    """Median rates of queries and of empty POSTs, measured in turns, and the last run of each."""

    rate: float
    empty_rate: float
    queries: Wrk
    empty: Wrk

    @property
    def ratio(self) -> float:
        """The rate over that of empty POSTs."""
        return self.rate / self.empty_rate


def compare_with_empty(
    url: str, bodies: Sequence[bytes], *, seconds: float, turns: int = 3, connections: int = 8
) -> Comparison:
    """Measure queries and empty POSTs in turns, `seconds` each. Raises RuntimeError if a query fails or an
    empty POST is not refused."""
    nothing = empty_bodies(bodies)
    runs = []
    for _ in range(turns):
        queries = run_wrk(url, bodies, connections=connections, seconds=seconds)
        empty = run_wrk(url, nothing, connections=connections, seconds=seconds)
        if queries.refused or queries.broken or empty.broken or empty.refused != empty.answers:
            raise RuntimeError(f"queries must succeed and empty POSTs be refused: {queries}, {empty}")
        runs.append((queries, empty))
    return Comparison(
        _median([queries.rate for queries, _ in runs]), _median([empty.rate for _, empty in runs]), *runs[-1]
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
