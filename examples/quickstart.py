"""First steps: create a namespace, add documents, search them, delete.

Start a server with `elacsym serve`, then run this file.
"""

import numpy as np

from elacsym.client import Client

DOCUMENTS = [
    {
        "id": 1,
        "vector": [1.0, 0.0, 0.0],
        "attributes": {"title": "Storing objects in a bucket", "year": 2022},
    },
    {
        "id": 2,
        "vector": [0.9, 0.1, 0.0],
        "attributes": {"title": "Object storage, priced by request", "year": 2024},
    },
    {"id": 3, "vector": [0.0, 0.0, 1.0], "attributes": {"title": "Baking bread at home", "year": 2024}},
]

with Client("http://127.0.0.1:3000") as client:
    client.create(
        "quickstart",
        {
            "vector_dim": 3,
            "vector_metric": "cosine",
            "attributes": {"title": {"type": "string", "full_text": True}, "year": {"type": "integer"}},
        },
    )
    written = client.upsert("quickstart", DOCUMENTS)
    print(f"{written.count} documents are durable")

    nearest = client.query("quickstart", vector=np.array([1.0, 0.0, 0.0]), top_k=2)
    for result in nearest.results:
        print(f"  {result.score:.4f}  {result.attributes['title']}")

    recent = client.query(
        "quickstart",
        full_text={"field": "title", "query": "storage"},
        filter={"field": "year", "op": "gte", "value": 2023},
    )
    print("about storage, since 2023:", [result.attributes["title"] for result in recent.results])

    client.delete_namespace("quickstart")
