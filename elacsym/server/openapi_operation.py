"""The words that the operations of the API's description are made of."""

from __future__ import annotations

from elacsym.server.openapi_shapes import STRING, Json, ref

_REQUEST_HEADERS = [
    {"$ref": "#/components/parameters/RequestId"},
    {"$ref": "#/components/parameters/RequestTimeout"},
]
IDEMPOTENCY = {"$ref": "#/components/parameters/IdempotencyKey"}
NAMESPACE = {"$ref": "#/components/parameters/Namespace"}
_RESPONSE_HEADERS = {
    "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
    "X-Served-By": {"$ref": "#/components/headers/ServedBy"},
}


def answer(description: str, schema: Json) -> Json:
    """A response with a JSON body."""
    return {
        "description": description,
        "headers": _RESPONSE_HEADERS,
        "content": {"application/json": {"schema": schema}},
    }


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def operation(
    name: str,
    summary: str,
    shown: Json,
    errors: tuple[int, ...],
    *,
    body: str | None = None,
    parameters: tuple[Json, ...] = (),
    is_open: bool = False,
    status: int = 200,
) -> Json:
    """An operation: its answer under `status`, its errors, and the component of its body, if it has one."""
    described: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": [*parameters, *_REQUEST_HEADERS],
        "responses": {str(status): shown}
        | {str(status): {"$ref": f"#/components/responses/{ERRORS[status][0]}"} for status in errors},
    }
    if body is not None:
        described["requestBody"] = _body(body)
    if is_open:
        described["security"] = []
    return described


ERRORS: dict[int, tuple[str, str]] = {
    307: ("WrongOwner", "another node writes the namespace: repeat the request at `Location`"),
    400: (
        "BrokenRule",
        "a rule is broken, or the body is not JSON; the message names the field; v2 tells bad names as text",
    ),
    401: ("Unauthorized", "no API key, or an unknown one"),
    404: ("NotFound", "what the path names does not exist"),
    413: ("TooLarge", "the body is larger than this server takes"),
    415: ("UnsupportedEncoding", "a content coding other than gzip"),
    422: ("WrongShape", "JSON of the wrong shape: type, unknown or missing field"),
    429: ("Overloaded", "refused early; come back after `Retry-After` seconds"),
    500: ("Fault", "stored data fails its checks, or an internal error"),
    503: ("Unavailable", "nothing happened, or (code `outcome_unknown`) a write may have happened"),
}
READ = (400, 401, 404, 429, 500, 503)
WRITE = (307, *READ)
BODY = (413, 415, 422)
PLAIN = (400, 500)


def error_response(status: int) -> Json:
    """The response of an error status."""
    headers: Json = dict(_RESPONSE_HEADERS)
    if status in (429, 503):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status in (307, 503):
        headers["X-Correct-Indexer"] = {"$ref": "#/components/headers/CorrectIndexer"}
    if status == 307:
        headers["Location"] = {"schema": {"type": "string", "format": "uri"}, "description": "absolute"}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}, "description": "`Bearer`"}
    content: Json = {"application/json": {"schema": ref("Error")}}
    if status == 400:
        content["text/plain"] = {"schema": STRING}
    return {"description": ERRORS[status][1], "headers": headers, "content": content}


def query_parameter(name: str, schema: Json, description: str) -> Json:
    """A parameter of the query string."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


PAGE = (
    query_parameter("prefix", STRING, "names that begin with this"),
    query_parameter("cursor", STRING, "`next_cursor` of the page before"),
    query_parameter("page_size", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "names"),
)
"""What chooses a page of a list of namespaces."""
