"""Run scenarios with the client that this interpreter finds.

    python -m v2.run_scenarios MODE URL KEY RUN NAME…

MODE is `sync` or `async`. Prints a line of JSON per scenario: its name, and what went wrong, or null. The
names of all namespaces begin with RUN.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import turbopuffer
from v2.catalogue import SCENARIOS
from v2.scenarios.trial import Scenario, Trial

Connect = Callable[..., Any]


async def outcome(chosen: Scenario, connect: Connect, run: str) -> str | None:
    """None, or what went wrong, with the values at hand."""
    client = connect()
    trial = Trial(client, f"{run}-{chosen.name}"[:96], turbopuffer.__version__, connect)
    try:
        async with asyncio.timeout(60):
            await chosen.run(trial)
    except Exception as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True, max_group_depth=2)
        # what the scenario did, not how the client does it; the outermost frame is this function
        ours = [
            frame
            for frame in told.stack[1:]
            if "/scenarios/" in frame.filename and "trial.py" not in frame.filename
        ]
        told.stack = traceback.StackSummary.from_list(ours)
        return "".join(told.format(chain=False))
    finally:
        closed = client.close()
        if inspect.isawaitable(closed):
            await closed
    return None


async def run_all(mode: str, url: str, key: str, run: str, names: list[str]) -> None:
    """Run the scenarios one after the other."""
    kind = turbopuffer.AsyncTurbopuffer if mode == "async" else turbopuffer.Turbopuffer

    def connect(**options: Any) -> Any:
        # a repetition must not hide anything
        return kind(**{"api_key": key, "base_url": url, "max_retries": 0} | options)

    for name in names:
        failure = await outcome(SCENARIOS[name], connect, run)
        print(json.dumps({"scenario": name, "failure": failure}), flush=True)


if __name__ == "__main__":
    asyncio.run(run_all(*sys.argv[1:5], sys.argv[5:]))
