"""The configuration of an nginx in front of a cluster. Pure.

* A namespace always goes to the same node while that one is up (a consistent hash of its name), so that it is
  cached once. nginx's hash is not the ring: the nodes behind it forward writes to their owners.
* Reads go to query nodes, or to indexers where there are none. Their bodies are buffered, so that a read can
  be repeated on another node; when no query node answers, an indexer does.
* Everything else goes to an indexer, streamed, and POST to another one if no connection could be made.
  Nothing is repeated once a byte of it was sent.
* `/internal/` is for the nodes themselves.

Paths for run-time files are relative: they lie in the folder that `nginx -p` names. Logs go to standard
error. Who runs nginx, and in the foreground or not, is left to the command line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Template

LISTEN = "8080"
BODY_MIB_MAX = 512
# a node ends a request by itself after 60 s: ELACSYM_REQUEST_TIMEOUT_S
READ_TIMEOUT_S = 65
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_ADDRESS = re.compile(rf"http://({_HOST}(?::\d{{1,5}})?)/?")
_LISTEN = re.compile(rf"(?:{_HOST}:)?\d{{1,5}}")

_CONFIGURATION = Template(
    r"""# Made by: $command
worker_processes auto;
worker_rlimit_nofile 16384;
error_log stderr warn;
pid nginx.pid;

events {
    worker_connections 8192;
}

http {
    access_log off;
    server_tokens off;
    default_type application/json;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;

    # the name as it was sent; without one, X-Namespace; without that, any node
    map $$request_uri $$namespace {
        default "";
        "~^/v[0-9]+/namespaces/(?<name>[^/?]+)" $$name;
    }
    map $$http_x_namespace $$without_namespace {
        default $$http_x_namespace;
        "" $$request_id;
    }
    map $$namespace $$affinity {
        default $$namespace;
        "" $$without_namespace;
    }
    map "$$request_method $$request_uri" $$kind {
        default write;
        "~^(GET|HEAD) " read;
        "~^POST /v[0-9]+/namespaces/[^/?]+/(query|explain_query|documents/get|_debug/recall)([?]|$$)" read;
        "~^(PUT|DELETE) " once;
    }
    # what can stand in a JSON text
    map $$http_x_request_id $$shown_request_id {
        default $$request_id;
        "~^[!#-\[\]-~]{1,128}$$" $$http_x_request_id;
    }

    upstream indexers {
        zone indexers 128k;
        hash $$affinity consistent;
$indexers
        keepalive 64;
        # shorter than the 75 s of a node, which then never closes a connection that is being used
        keepalive_timeout 60s;
    }
    # a single refused read does not make a node an unavailable one
    upstream readers {
        zone readers 128k;
        hash $$affinity consistent;
$readers
        keepalive 64;
        keepalive_timeout 60s;
    }

    server {
        listen $listen;

        client_max_body_size $body_max;
        client_body_buffer_size 256k;
        client_body_timeout 60s;

        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $$http_host;
        proxy_set_header X-Request-Id $$shown_request_id;
        proxy_set_header X-Forwarded-For $$proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $$scheme;
        # nodes say these to each other
        proxy_set_header X-Elacsym-Hops "";
        proxy_set_header X-Elacsym-Changed "";
        proxy_redirect off;
        proxy_connect_timeout 2s;
        proxy_send_timeout 60s;
        proxy_read_timeout ${read_timeout_s}s;
        proxy_max_temp_file_size 0;

        recursive_error_pages on;
        error_page 403 @forbidden;
        error_page 413 @too_large;
        error_page 502 504 @no_answer;

        location / {
            try_files /none @$$kind;
        }

        location @read {
            proxy_pass http://readers;
            proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;
            proxy_next_upstream_tries 3;
            proxy_next_upstream_timeout ${read_timeout_s}s;$fallback
        }
        location @write {
            proxy_pass http://indexers;
            proxy_request_buffering off;
            proxy_next_upstream error timeout;
            proxy_next_upstream_tries 3;
        }

        # nginx takes these methods for ones that may be repeated after they were sent, if they have
        # a short body or none; without repeating, the next request passes a node that is down over
        location @once {
            proxy_pass http://indexers;
            proxy_request_buffering off;
            proxy_next_upstream off;
        }

        location /internal/ {
            deny all;
        }
        location = /nginx/health {
            return 200 '{"status":"ok"}';
        }

        location @forbidden {
            return 403 '$forbidden';
        }
        location @too_large {
            return 413 '$too_large';
        }
        # what became of the request nobody knows; a client repeats it with its idempotency key
        location @no_answer {
            return 502 '$no_answer';
        }
    }
}
"""
)
_FALLBACK = """
            error_page 413 @too_large;
            error_page 504 @no_answer;
            error_page 502 = @read_of_indexer;
        }
        location @read_of_indexer {
            proxy_pass http://indexers;
            proxy_next_upstream error timeout non_idempotent;
            proxy_next_upstream_tries 3;"""


def render(
    indexers: Sequence[str],
    query_nodes: Sequence[str] = (),
    *,
    listen: str = LISTEN,
    body_mib_max: int = BODY_MIB_MAX,
    read_timeout_s: int = READ_TIMEOUT_S,
) -> str:
    """The configuration for nodes at these addresses, as in `http://indexer-0:3000`.

    The nodes are to run with `ELACSYM_FORWARD=true`. listen: a port, or address and port. body_mib_max:
    longest request body. read_timeout_s: how long a node may take to answer. Raises ValueError for an address
    that is none, and without indexers.
    """
    if not indexers:
        raise ValueError("a cluster needs at least one indexer")
    if _LISTEN.fullmatch(listen) is None:
        raise ValueError(f"{listen!r} is neither a port nor an address and a port")
    return _CONFIGURATION.substitute(
        command=_command(indexers, query_nodes, listen, body_mib_max, read_timeout_s),
        indexers=_servers(indexers, fails_max=1),
        readers=_servers(query_nodes or indexers, fails_max=3),
        fallback=_FALLBACK if query_nodes else "",
        listen=listen,
        body_max=f"{body_mib_max}m",
        read_timeout_s=read_timeout_s,
        forbidden=_error("forbidden", "this path is for nodes of the cluster"),
        too_large=_error("payload_too_large", f"the body is longer than {body_mib_max} MiB"),
        no_answer=_error("bad_gateway", "no node answered"),
    )


def _command(
    indexers: Sequence[str], query_nodes: Sequence[str], listen: str, body_mib_max: int, read_timeout_s: int
) -> str:
    parts = [f"--indexer {url}" for url in indexers] + [f"--query-node {url}" for url in query_nodes]
    limits = [
        ("--listen", listen, LISTEN),
        ("--body-mib-max", body_mib_max, BODY_MIB_MAX),
        ("--read-timeout-s", read_timeout_s, READ_TIMEOUT_S),
    ]
    parts += [f"{flag} {value}" for flag, value, default in limits if value != default]
    return " \\\n#     ".join(["elacsym cluster nginx", *parts])


def _servers(urls: Sequence[str], *, fails_max: int) -> str:
    lines = (f"server {_address(url)} max_fails={fails_max} fail_timeout=5s;" for url in urls)
    return "\n".join(f"        {line}" for line in lines)


def _address(url: str) -> str:
    match = _ADDRESS.fullmatch(url)
    if match is None:
        raise ValueError(f"{url!r} is no address of a node, as in http://indexer-0:3000")
    return match[1]


def _error(code: str, reason: str) -> str:
    return f'{{"status":"error","error":"{reason}","code":"{code}","request_id":"$shown_request_id"}}'
