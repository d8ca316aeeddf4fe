"""The container set-up, as far as it can be tried without containers."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from elacsym.cluster.nginx import render
from elacsym.config import Config
from elacsym.demo.local import running_server

ROOT = Path(__file__).parents[2]
OWN_IMAGE = "elacsym:local"


def with_defaults(value):
    """The value with every `${NAME:-default}` replaced, as where none of these variables is set."""
    if isinstance(value, dict):
        return {name: with_defaults(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_defaults(item) for item in value]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) if isinstance(value, str) else value


@pytest.fixture(scope="module")
def services():
    """The services of docker-compose.yml by name."""
    return with_defaults(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))["services"]


@pytest.fixture(scope="module")
def nodes(services):
    """The services that are nodes."""
    return {name: s for name, s in services.items() if name.startswith(("indexer-", "query-"))}


@pytest.fixture(scope="module")
def instructions():
    """The instructions of the image's last stage, in order: name and arguments."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and line[0] != "#"]
    last = max(i for i, (name, _) in enumerate(lines) if name == "FROM")
    return lines[last:]


def arguments(instructions, name):
    return [rest for instruction, rest in instructions if instruction == name]


def image_environment(instructions):
    (text,) = arguments(instructions, "ENV")
    return dict(pair.split("=", 1) for pair in text.split())


def compose_clients():
    for command in [["docker", "compose"], ["docker-compose"]]:
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run([*command, "version"], capture_output=True, check=False)
        if done.returncode == 0:
            yield command


def test_a_client_of_compose_accepts_the_file():
    clients = list(compose_clients())
    if not clients:
        pytest.skip("there is no docker compose")
    for client in clients:
        done = subprocess.run(
            [*client, "-f", ROOT / "docker-compose.yml", "config", "--quiet"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_there_are_three_indexers_and_two_query_nodes_with_settings_that_a_node_accepts(nodes, instructions):
    assert sorted(nodes) == ["indexer-0", "indexer-1", "indexer-2", "query-0", "query-1"]
    for name, service in nodes.items():
        config = Config.load(environment=image_environment(instructions) | service["environment"])
        config.check_listener()
        assert config.warnings == ()
        assert config.node_id == name
        assert config.node_type == name.split("-")[0]
        assert config.advertise_url == f"http://{name}:{config.port}"
        assert config.forward
        assert config.admin_keys
        assert config.storage == "s3://elacsym/data"
        assert config.shutdown_timeout_s < float(service["stop_grace_period"].removesuffix("s"))
        assert service["volumes"] == [f"cache-{name}:{config.cache_path}"]
        assert service["read_only"]


def test_nginx_stands_before_exactly_these_nodes(services, nodes):
    urls = {name: service["environment"]["ELACSYM_ADVERTISE_URL"] for name, service in nodes.items()}
    indexers = [url for name, url in urls.items() if name.startswith("indexer-")]
    query_nodes = [url for name, url in urls.items() if name.startswith("query-")]
    assert (ROOT / "nginx/nginx.conf").read_text() == render(indexers, query_nodes)
    nginx = services["nginx"]
    assert "./nginx/nginx.conf:/etc/nginx/nginx.conf:ro" in nginx["volumes"]
    assert set(nginx["depends_on"]) == set(nodes)
    assert nginx["user"] != "0:0"


def test_nodes_wait_for_the_bucket_and_that_for_the_server(services, nodes):
    for service in nodes.values():
        assert service["depends_on"] == {"bucket": {"condition": "service_completed_successfully"}}
    assert services["bucket"]["depends_on"] == {"s3": {"condition": "service_healthy"}}
    (mounted,) = services["bucket"]["volumes"]
    source, target, _ = mounted.split(":")
    assert (ROOT / source).is_file()
    assert services["bucket"]["entrypoint"] == ["python", target]
    keys = {name: services["bucket"]["environment"][name] for name in services["bucket"]["environment"]}
    assert keys["AWS_ACCESS_KEY_ID"] == services["s3"]["environment"]["RUSTFS_ACCESS_KEY"]
    assert keys["AWS_SECRET_ACCESS_KEY"] == services["s3"]["environment"]["RUSTFS_SECRET_KEY"]
    for service in nodes.values():
        assert keys.items() <= service["environment"].items()


def test_images_of_others_are_pinned(services):
    for service in services.values():
        name, _, tag = service["image"].partition(":")
        if service["image"] != OWN_IMAGE:
            assert re.fullmatch(r"\d+\.\d+\.\d+", tag), name


def test_the_image_runs_as_a_user_without_rights_and_writes_to_the_cache_alone(instructions):
    (user,) = arguments(instructions, "USER")
    assert user not in {"root", "0"}
    assert f"useradd --system --uid 10001 --home-dir /var/cache/elacsym --shell /usr/sbin/nologin {user}" in (
        " ".join(arguments(instructions, "RUN")[0].split())
    )
    names = [name for name, _ in instructions]
    # nothing is written into the image after the user was left
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])
    cache = image_environment(instructions)["ELACSYM_CACHE_PATH"]
    assert arguments(instructions, "VOLUME") == arguments(instructions, "WORKDIR") == [cache]


def test_what_the_image_copies_is_let_in_and_nothing_else():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == let_in
    assert all((ROOT / name).exists() for name in let_in)


def health_check(instructions, url):
    (text,) = arguments(instructions, "HEALTHCHECK")
    program, *rest = json.loads(text[text.index("CMD") + len("CMD") :])
    assert program == "python"
    environment = dict(os.environ) | {"ELACSYM_PORT": url.rpartition(":")[2]}
    return subprocess.run(
        [sys.executable, *rest], env=environment, capture_output=True, check=False
    ).returncode


def test_the_health_check_tells_a_node_that_lives(instructions, tmp_path):
    with running_server(tmp_path) as url:
        assert health_check(instructions, url) == 0
    assert health_check(instructions, url) != 0


def test_the_health_check_tells_a_node_that_answers_with_an_error(instructions):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            assert health_check(instructions, f"http://127.0.0.1:{server.server_port}") != 0
        finally:
            server.shutdown()


def create_bucket(environment):
    done = subprocess.run(
        [sys.executable, ROOT / "examples/create_bucket.py"],
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


async def test_the_bucket_is_created_once(moto_server):
    environment = moto_server.environment | {"ELACSYM_STORAGE": "s3://made-by-compose/data"}
    for _ in range(2):
        assert create_bucket(environment) == (0, "bucket made-by-compose exists\n", "")
    code, _, said = create_bucket(environment | {"ELACSYM_STORAGE": "./folder"})
    assert code != 0
    assert "is no s3://bucket/prefix" in said
