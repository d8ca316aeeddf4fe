"""The JSON shape of a query's plan: what `explain` tells. Fields may be added to it at any time."""

from __future__ import annotations

from elacsym.server.openapi_shapes import BOOLEAN, COUNT, NUMBER, STRING, Json, array, object_of, ref


def _open(properties: Json, required: list[str], **more: str) -> Json:
    """An object with these fields and perhaps others."""
    return {"type": "object", "properties": properties, "required": required} | more


def _told(shape: Json, description: str) -> Json:
    return shape | {"description": description}


_US = COUNT

PLAN_SCHEMAS: Json = {
    "PlanLegPart": _open(
        {
            "part": _told(STRING, "`memtable`, or a segment"),
            "way": _told(
                STRING,
                "`scan` compares every vector, `gather` those of few matching rows, `codes` estimates by "
                "quantised vectors and compares the best",
            ),
            "matched": _told(COUNT, "rows that the filter leaves"),
            "cost_estimated_us": _told(_US, "what this way was expected to take"),
            "lists_probed": _told(COUNT, "clusters whose codes were looked at"),
            "codes_scanned": COUNT,
            "candidates": _told(COUNT, "rows that the codes proposed"),
            "reranked": _told(COUNT, "rows whose exact distance was computed"),
        },
        ["part", "way"],
    ),
    "PlanLeg": _open(
        {
            "leg": _told(STRING, "`vector:ATTRIBUTE` or `text:ATTRIBUTE+…`"),
            "candidates": _told(COUNT, "rows that the leg gives to the ranking"),
            "rows_scored": _told(COUNT, "rows with an exact distance or BM25 score"),
            "index": _told(STRING, "`vectors` or `postings`"),
            "parts": _told(array(ref("PlanLegPart")), "of a vector leg: how each part was searched"),
            "terms": _told(array(STRING), "of a text leg: the words of the query that the namespace has"),
            "postings": _told(COUNT, "of a text leg: live rows that have a term, added over the terms"),
        },
        ["leg", "candidates", "index", "rows_scored"],
    ),
    "Plan": _open(
        {
            "kind": STRING,
            "snapshot": object_of(
                {"incarnation": STRING, "generation": COUNT, "tail": COUNT},
                ["incarnation", "generation", "tail"],
            ),
            "rows": object_of({"live": COUNT, "matched": COUNT}, ["live", "matched"]),
            "parts": array(
                object_of(
                    {"part": STRING, "rows": COUNT, "live": COUNT, "matched": COUNT},
                    ["part", "rows", "live", "matched"],
                )
            ),
            "filter": object_of(
                {"rows_estimated": COUNT, "rows_actual": COUNT, "remembered": BOOLEAN},
                ["rows_estimated", "rows_actual", "remembered"],
            ),
            "legs": array(ref("PlanLeg")),
            "fusion": _open(
                {"method": STRING, "k": NUMBER, "depth": COUNT, "weights": array(NUMBER)}, ["method"]
            ),
            "cost_estimated_us": _told(_US, "what the query was expected to take over warm files"),
            "where": _told(STRING, "`inline`: on the event loop; `pool`: in a thread"),
            "stages_us": _told(
                {"type": "object", "additionalProperties": _US}, "time by stage, waiting for bytes included"
            ),
            "rounds": _told(
                array(object_of({"wanted_bytes": COUNT, "waited_us": _US}, ["wanted_bytes", "waited_us"])),
                "waits for bytes that were not at hand, one after another",
            ),
            "bytes_read": _told(COUNT, "bytes brought in from the store or the cache folder"),
        },
        ["kind", "snapshot", "rows", "parts", "legs"],
    ),
}
