"""The exception tree; every error that reaches a user is one of these.

    ElacsymError
    ├── InvalidRequest         400  a rule is broken; names the field
    │   ├── InvalidShape       422  JSON of the wrong shape
    │   ├── SchemaConflict     400  an attribute exists with another type
    │   ├── MetricConflict     400  the namespace has another metric
    │   └── TypeMismatch       400  a filter compares an attribute with a value of another type
    ├── Unauthorized           401
    ├── NotFound               404
    │   ├── NamespaceNotFound
    │   └── DocumentNotFound
    ├── PayloadTooLarge        413
    ├── Overloaded             429  back-pressure; says when to come back
    ├── CorruptObject          500  stored bytes fail a check; never served, never repaired silently
    ├── UnknownAnalysis        500  an index was made by tokenizers that this program lacks
    ├── Unavailable            503  nothing happened; may be tried again
    │   ├── StoreUnavailable        the object store gave no (clean) answer
    │   ├── NotOwner                another node writes this namespace
    │   └── DeadlineExceeded
    ├── OutcomeUnknown         503  a write may or may not have happened
    └── UnsafeStore            at start: the store ignores conditional writes

The three outcomes of a write are three types: rejected (any 4xx, Unavailable), committed (a return value),
unknown (OutcomeUnknown). Messages are lower case, no full stop, and name the object and the
values that disagree.
"""

from __future__ import annotations


class ElacsymError(Exception):
    """Base of the tree. `code` is the machine word of the answer, `status` its HTTP status."""

    code: str = "internal"
    status: int = 500
    retryable: bool = False


class InvalidRequest(ElacsymError):
    """A well-formed request that breaks a rule. `field` is the JSON path of what is wrong."""

    code, status = "invalid_request", 400

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field, self.reason = field, reason


class InvalidShape(InvalidRequest):
    """A JSON body whose shape does not fit: wrong JSON type, unknown field or enum value, missing field."""

    code, status = "invalid_shape", 422

    def __init__(self, field: str, reason: str, *, typed: str | None = None) -> None:
        """`typed` says the same, place included, as decoders into typed structures do, which some clients
        look for."""
        super().__init__(field, reason)
        self.typed = str(self) if typed is None else typed


class SchemaConflict(InvalidRequest):
    """A schema that gives an attribute another type than it has."""

    def __init__(self, attribute: str, known: object, given: object) -> None:
        super().__init__(
            "",
            f"invalid schema update for attribute '{attribute}': "
            f"cannot change attribute type from {known} to {given}",
        )
        self.field, self.attribute = f"schema.{attribute}", attribute


class MetricConflict(InvalidRequest):
    """A distance metric that is not the namespace's."""

    def __init__(self, known: str, given: str) -> None:
        super().__init__("", f"distance metric mismatch, expected {known}, got {given}")
        self.field, self.known, self.given = "distance_metric", known, given


class TypeMismatch(InvalidRequest):
    """An operand in a filter that is not of the type that the operator needs on the attribute."""

    def __init__(self, path: str, attribute: str, operator: str, expected: str, given: str) -> None:
        super().__init__(
            "",
            f"filter error in key `{attribute}`: type mismatch, "
            f"{operator} expects {expected}, but got '{given}'",
        )
        self.field, self.attribute = path, attribute


class Unauthorized(ElacsymError):
    """No API key, or an unknown one."""

    code, status = "unauthorized", 401


class NotFound(ElacsymError):
    """What the path names does not exist."""

    code, status = "not_found", 404


class NamespaceNotFound(NotFound):
    """The namespace does not exist."""

    code = "namespace_not_found"

    def __init__(self, namespace: str) -> None:
        super().__init__(f"namespace '{namespace}' was not found")
        self.namespace = namespace


class DocumentNotFound(NotFound):
    """The namespace has no document of this id."""

    code = "document_not_found"


class PayloadTooLarge(ElacsymError):
    """A request body over the limit."""

    code, status = "payload_too_large", 413


class Overloaded(ElacsymError):
    """Load is refused early; `retry_after_s` goes into `Retry-After`."""

    code, status, retryable = "overloaded", 429, True

    def __init__(self, reason: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class CorruptObject(ElacsymError):
    """Stored bytes fail their checksum or break an invariant; never served, never repaired silently."""

    code, status = "data_corruption", 500

    def __init__(self, key: str, reason: str, *, offset: int | None = None) -> None:
        where = f" at byte {offset}" if offset is not None else ""
        super().__init__(f"{key}{where}: {reason}")
        self.key, self.reason, self.offset = key, reason, offset


class UnknownAnalysis(ElacsymError):
    """A text index was made by an analysis that this program does not have: a later one wrote it. Terms of
    queries would differ from those of the texts."""

    code, status = "unknown_analysis", 500

    def __init__(self, key: str, analysis: str) -> None:
        super().__init__(f"{key}: its texts were analysed by {analysis!r}, which this program lacks")
        self.key, self.analysis = key, analysis


class Unavailable(ElacsymError):
    """Nothing happened; the same request may be sent again."""

    code, status, retryable = "unavailable", 503, True
    retry_after_s: float = 1.0


class StoreUnavailable(Unavailable):
    """The object store failed or gave no clean answer. For a mutation: it may have been applied all the
    same."""

    code = "store_unavailable"


class NotOwner(Unavailable):
    """Another node writes the namespace: the one that `owner_id` and `owner_url` name, where it is known."""

    code = "not_owner"

    def __init__(self, reason: str, *, owner_id: str | None = None, owner_url: str | None = None) -> None:
        super().__init__(reason)
        self.owner_id, self.owner_url = owner_id, owner_url


class DeadlineExceeded(Unavailable):
    """The request's deadline passed before anything happened."""

    code = "deadline_exceeded"


class OutcomeUnknown(ElacsymError):
    """A write may or may not have been committed; a retry with `idempotency_key` gives the original result
    once known."""

    code, status, retryable = "outcome_unknown", 503, True

    def __init__(self, reason: str, *, idempotency_key: str | None = None) -> None:
        super().__init__(reason)
        self.idempotency_key = idempotency_key
        self.retry_after_s = 1.0


class UnsafeStore(ElacsymError):
    """The store lets several conditional writers win, or ignores conditions: unusable."""

    code = "unsafe_store"
