"""The JSON shapes of what people ask about the cluster."""

from __future__ import annotations

from elacsym.server.openapi_shapes import BOOLEAN, COUNT, STRING, Json, array, object_of
from elacsym.server.v1_cluster import MEMBERS_MAX, MOVES_SHOWN_MAX, WEIGHTS_MAX
from elacsym.setting_forms import WEIGHT_MAX, WEIGHT_MIN

_SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_WEIGHT: Json = {"type": "number", "minimum": WEIGHT_MIN, "maximum": WEIGHT_MAX}
_NODE_OR_NOBODY: Json = {"type": ["string", "null"]}

_MEMBER = {
    "id": STRING,
    "url": STRING,
    "role": {"type": "string", "enum": ["all", "indexer", "query"]},
    "weight": _WEIGHT,
    "health": {"type": "string", "enum": ["live", "suspect", "draining", "silent"]},
    "ring_share": _SHARE | {"description": "the part of all namespaces that it owns"},
    "heartbeat_age_s": {
        "type": ["number", "null"],
        "minimum": 0,
        "description": "by the store's clock; null where there are no heartbeats",
    },
    "namespaces": {
        "type": ["integer", "null"],
        "minimum": 0,
        "description": "how many it owns; null unless asked for",
    },
    "is_self": BOOLEAN,
}
_CLUSTER = {
    "node": STRING | {"description": "the node that answers"},
    "mode": {"type": "string", "enum": ["single", "static", "dynamic"]},
    "epoch": COUNT | {"description": "changes of this node's view of the ring since it started"},
    "ring": STRING | {"description": "a digest that is the same on nodes that agree on owners"},
    "members": array(object_of(_MEMBER, list(_MEMBER))),
}
_OWNER = {
    "namespace": STRING,
    "owner": {"oneOf": [object_of({"id": STRING, "url": STRING}, ["id", "url"]), {"type": "null"}]},
    "preferred_readers": array(STRING) | {"description": "nodes, the best first"},
}
_MOVE = {"namespace": STRING, "from": _NODE_OR_NOBODY, "to": _NODE_OR_NOBODY}
_REBALANCE = {
    "moved": COUNT,
    "total": COUNT,
    "moves": array(object_of(_MOVE, list(_MOVE))) | {"maxItems": MOVES_SHOWN_MAX},
}

CLUSTER_SCHEMAS: Json = {
    "ClusterAnswer": object_of(_CLUSTER, list(_CLUSTER)),
    "OwnerAnswer": object_of(_OWNER, list(_OWNER)),
    "RebalanceRequest": object_of(
        {
            "members": {
                "type": "object",
                "additionalProperties": _WEIGHT,
                "minProperties": 1,
                "maxProperties": MEMBERS_MAX,
                "description": "weights of those that would own namespaces, by node id; at most "
                f"{WEIGHTS_MAX:g} together",
            }
        },
        ["members"],
    ),
    "RebalanceAnswer": object_of(_REBALANCE, list(_REBALANCE)),
}
