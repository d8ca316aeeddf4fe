"""The settings: sources, values, typos, secrets."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import elacsym
from elacsym.config import Config, InvalidSetting, is_loopback, is_one_typo_away, settings_table, show_bytes
from elacsym.setting_forms import NodeEntry


def load(environment=None, flags=None, config_path=None):
    return Config.load(flags, environment=environment or {}, config_path=config_path)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_nothing_set_gives_a_local_server():
    config = load()
    assert (config.storage, config.host, config.port) == ("./elacsym-data", "127.0.0.1", 3000)
    assert config.node_id
    config.check_listener()


def test_later_sources_win(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('port = 1001\nfold_slots = 7\nlog_level = "debug"\ncache_disk_bytes = "1GiB"\n')
    environment = {"ELACSYM_PORT": "1002", "ELACSYM_FOLD_SLOTS": "8"}
    config = load(environment, {"port": 1003, "fold_slots": None}, file)
    assert (config.port, config.fold_slots, config.log_level) == (1003, 8, "debug")
    assert config.cache_disk_bytes == 2**30


def test_the_file_is_found_by_variable_and_in_the_working_folder(tmp_path):
    (tmp_path / "elacsym.toml").write_text("port = 1\n")
    (tmp_path / "other.toml").write_text("port = 2\n")
    assert load().port == 1
    assert load({"ELACSYM_CONFIG": str(tmp_path / "other.toml")}).port == 2


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(InvalidSetting, match=r"nowhere\.toml"):
        load(config_path=tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("port = = 3")
    with pytest.raises(InvalidSetting, match=r"bad.toml.*TOML"):
        load(config_path=tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("1KiB", 1024),
        ("256MiB", 256 * 2**20),
        ("10 GiB", 10 * 2**30),
        ("1.5KiB", 1536),
        ("2MB", 2 * 10**6),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(text, size):
    assert load({"ELACSYM_CACHE_MEMORY_BYTES": text}).cache_memory_bytes == size


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "70000", "an integer from 0 to 65535"),
        ("PORT", "http", "an integer from 0 to 65535"),
        ("CACHE_DISK_BYTES", "10 gigs", "a size from"),
        ("CACHE_DISK_BYTES", "-1", "a size from"),
        ("REQUEST_TIMEOUT_S", "0", "seconds from"),
        ("REQUEST_TIMEOUT_S", "nan", "seconds from"),
        ("FOLD_AGE_S", "30s", "seconds from"),
        ("NODE_TYPE", "primary", "one of all, indexer, query"),
        ("LOG_FORMAT", "xml", "one of auto, json, human"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("ALLOW_ANONYMOUS", "maybe", "true or false"),
        ("STORAGE", "gs://bucket", "s3://bucket/prefix"),
        ("STORAGE", "s3://", "s3://bucket/prefix"),
        ("NODE_ID", "a b", "1 to 128 of"),
        ("NODE_ID", "a\r\nb", "1 to 128 of"),
        ("UNINDEXED_BYTES_MAX", "3GiB", "2GiB"),
        ("NODES", "a", "id=url[;role=query][;weight=2], not 'a'"),
        ("NODES", "a=http://one,a=http://two", "every node once, not a again"),
        ("NODES", "a=http://one;rule=query", "role or weight, not 'rule=query'"),
        ("NODES", "a=http://one;role=all", "one of indexer, query"),
        ("NODES", "a=http://one;weight=0", "a weight from 0.01 to 16"),
        ("NODES", "a b=http://one", "1 to 128 of"),
        ("NODES", "a=one:3000", "http://host:port"),
        ("TOTAL_NODES", "0", "an integer from 1"),
        ("NODE_URL_PATTERN", "http://indexer:3000", "{index}"),
        ("NODE_URL_PATTERN", "indexer-{index}", "http://host:port"),
        ("ADVERTISE_URL", "http://one/path", "without a path"),
        ("ADVERTISE_URL", "http://me:secret@one", "http://host:port"),
        ("ADVERTISE_URL", "http://one:port", "http://host:port"),
        ("NODE_WEIGHT", "17", "a weight from 0.01 to 16"),
        ("HEARTBEAT_S", "0", "seconds from 0.1"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_name_and_rule(name, value, allowed):
    with pytest.raises(InvalidSetting) as error:
        load({f"ELACSYM_{name}": value})
    assert f"ELACSYM_{name}: {value!r}" in str(error.value)
    assert allowed in str(error.value)


def test_an_empty_variable_is_unset():
    assert load({"ELACSYM_PORT": "", "ELACSYM_NODE_ID": ""}).port == 3000


def test_storage_has_an_alias():
    assert load({"ELACSYM_STORAGE_PATH": "s3://bucket/here"}).storage == "s3://bucket/here"
    with pytest.raises(InvalidSetting, match="ELACSYM_STORAGE_PATH"):
        load({"ELACSYM_STORAGE_PATH": "./a", "ELACSYM_STORAGE": "./b"})


@pytest.mark.parametrize(
    "typo", ["ELACSYM_PROT", "ELACSYM_POR", "ELACSYM_PORTS", "ELACSYM_PURT", "ELACSMY_PORT"]
)
def test_a_name_one_typo_away_is_refused_with_a_suggestion(typo):
    with pytest.raises(InvalidSetting, match=rf"{typo}.*did you mean ELACSYM_PORT"):
        load({typo: "1"})


def test_other_unknown_names_are_a_warning():
    config = load({"ELACSYM_COLOUR": "blue", "HOME": "/"})
    assert [w for w in config.warnings if "ELACSYM_COLOUR" in w] == list(config.warnings)
    assert len(config.warnings) == 1


def test_variables_of_tests_and_clients_are_no_settings():
    names = ("TEST_DATA", "REQUIRE_CEPH", "SIM_SEEDS", "URL")
    assert load({f"ELACSYM_{name}": "x" for name in names}).warnings == ()


def test_the_key_of_clients_is_not_taken_for_a_key_of_the_server_in_silence():
    (warning,) = load({"ELACSYM_API_KEY": "some-key-1"}).warnings
    assert "ELACSYM_API_KEYS" in warning
    assert "some-key-1" not in warning
    assert load({"ELACSYM_API_KEY": "some-key-1", "ELACSYM_API_KEYS": "some-key-1"}).warnings == ()


def test_typos_and_unknown_names_are_judged_in_the_file_too(tmp_path):
    file = tmp_path / "elacsym.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(InvalidSetting, match="did you mean port"):
        load()
    file.write_text("colour = 1\n")
    assert "colour" in load().warnings[0]


def test_an_unknown_flag_is_refused():
    with pytest.raises(InvalidSetting, match="--colour"):
        load(flags={"colour": "blue"})


def test_without_keys_only_loopback_is_listened_on():
    with pytest.raises(InvalidSetting, match="ELACSYM_API_KEYS"):
        load({"ELACSYM_HOST": "0.0.0.0"}).check_listener()
    with_keys = load({"ELACSYM_HOST": "0.0.0.0", "ELACSYM_API_KEYS": "first-key,second-key"})
    with_keys.check_listener()
    assert not with_keys.is_open_to_all
    anonymous = load({"ELACSYM_HOST": "0.0.0.0", "ELACSYM_ALLOW_ANONYMOUS": "true"})
    anonymous.check_listener()
    assert anonymous.is_open_to_all


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example.org", False),
    ],
)
def test_loopback_addresses_are_known(host, expected):
    assert is_loopback(host) is expected


def test_no_secret_is_shown():
    environment = {
        "ELACSYM_API_KEYS": "very-secret-key",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "hidden-secret",
        "AWS_SESSION_TOKEN": "hidden-token",
    }
    config = load(environment)
    shown = f"{config.describe()} {config}"
    assert "very-secret-key" not in shown
    assert "hidden" not in shown
    assert config.describe()["api_keys"] == "1 set"
    with pytest.raises(InvalidSetting) as error:
        load({"ELACSYM_API_KEYS": "short"})
    assert "short" not in str(error.value)


def test_keys_are_separated_by_commas():
    assert load({"ELACSYM_API_KEYS": " first-key , second-key,"}).api_keys == ("first-key", "second-key")


def test_aws_variables_are_collected():
    config = load(
        {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": "http://one",
            "AWS_ENDPOINT_URL_S3": "http://two",
        }
    )
    assert (config.aws.access_key_id, config.aws.secret_access_key) == ("id", "secret")
    assert (config.aws.region, config.aws.endpoint_url) == ("eu-west-1", "http://two")


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(InvalidSetting, match="BODY_BYTES_IN_FLIGHT_MAX"):
        load({"ELACSYM_BODY_BYTES_IN_FLIGHT_MAX": "1MiB"})


def test_a_list_of_nodes_is_read_with_roles_and_weights():
    text = " a=http://one:3000/ , b=https://two;weight=2.5,q=http://[::1]:3;role=query;weight=0.5,"
    expected = (
        NodeEntry("a", "http://one:3000"),
        NodeEntry("b", "https://two", weight=2.5),
        NodeEntry("q", "http://[::1]:3", role="query", weight=0.5),
    )
    config = load({"ELACSYM_NODES": text, "ELACSYM_NODE_ID": "a"})
    assert config.nodes == config.listed_nodes == expected
    again = load({"ELACSYM_NODES": ",".join(config.describe()["nodes"]), "ELACSYM_NODE_ID": "a"})
    assert again.nodes == expected


def test_a_list_of_nodes_may_be_a_list_in_the_file(tmp_path):
    (tmp_path / "elacsym.toml").write_text('nodes = ["a=http://one", "b=http://two"]\nnode_id = "b"\n')
    assert load().nodes == (NodeEntry("a", "http://one"), NodeEntry("b", "http://two"))


def test_numbered_nodes_have_addresses_by_the_pattern(tmp_path):
    environment = {"ELACSYM_NODE_INDEX": "1", "ELACSYM_TOTAL_NODES": "2"}
    config = load(environment)
    assert config.node_id == "indexer-1"
    assert config.listed_nodes == (
        NodeEntry("indexer-0", "http://indexer-0:3000"),
        NodeEntry("indexer-1", "http://indexer-1:3000"),
    )
    pattern = {"ELACSYM_NODE_URL_PATTERN": "http://10.0.0.{index}:80"}
    assert load(environment | pattern).listed_nodes[1].url == "http://10.0.0.1:80"
    query_node = load({"ELACSYM_TOTAL_NODES": "2", "ELACSYM_NODE_TYPE": "query", "ELACSYM_NODE_ID": "q"})
    assert [entry.node_id for entry in query_node.listed_nodes] == ["indexer-0", "indexer-1"]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"NODES": "a=http://one", "NODE_ID": "b"}, "NODE_ID: 'b' is none of the nodes a"),
        ({"NODES": "a=http://one", "NODE_ID": "a", "NODE_TYPE": "query"}, "NODE_TYPE: 'query'"),
        ({"NODES": "a=http://one,b=http://two;role=query", "NODE_ID": "b"}, "NODE_TYPE: 'all'"),
        ({"NODES": "b=http://two;role=query", "NODE_ID": "b", "NODE_TYPE": "query"}, "NODES: an indexer"),
        ({"NODES": "a=http://one", "NODE_ID": "a", "NODE_WEIGHT": "2"}, "NODE_WEIGHT: 2"),
        ({"NODES": "a=http://one", "NODE_ID": "a", "ADVERTISE_URL": "http://two"}, "ADVERTISE_URL"),
        ({"NODES": "a=http://one", "NODE_ID": "a", "TOTAL_NODES": "1"}, "TOTAL_NODES"),
        ({"TOTAL_NODES": "2"}, "NODE_INDEX"),
        ({"NODE_INDEX": "0"}, "TOTAL_NODES"),
        ({"NODE_INDEX": "2", "TOTAL_NODES": "2"}, "NODE_INDEX: 2 where 0 to 1"),
        ({"NODE_INDEX": "1", "TOTAL_NODES": "2", "NODE_ID": "b"}, "NODE_ID: 'b'"),
        ({"NODE_INDEX": "1", "TOTAL_NODES": "2", "NODE_TYPE": "query"}, "only indexers are numbered"),
        ({"HEARTBEAT_S": "5", "HEARTBEAT_SILENT_S": "9"}, "HEARTBEAT_SILENT_S: 9"),
    ],
)
def test_settings_of_a_cluster_that_contradict_each_other_are_refused(environment, named):
    with pytest.raises(InvalidSetting, match=re.escape(named)):
        load({f"ELACSYM_{name}": value for name, value in environment.items()})


def test_admin_keys_are_not_shown():
    config = load({"ELACSYM_ADMIN_KEYS": "very-secret-key"})
    assert "very-secret" not in f"{config.describe()} {config}"


def test_the_readme_shows_the_table():
    assert settings_table() in (Path(elacsym.__file__).parents[1] / "README.md").read_text()


def test_the_table_names_every_setting():
    rows = re.findall(r"^\| `(ELACSYM_\w+)`", settings_table(), re.MULTILINE)
    assert rows == ["ELACSYM_" + name.upper() for name in load().describe()]


def test_every_setting_is_read_by_somebody():
    read = set()
    for file in Path(elacsym.__file__).parent.rglob("*.py"):
        if file.name not in ("config.py", "setting_rules.py"):
            nodes = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)]
            read |= {n.attr for n in nodes if ast.unparse(n.value).split(".")[-1] == "config"}
    behind = {"log_format": "logs_as_json", "allow_anonymous": "check_listener"}
    behind |= dict.fromkeys(("nodes", "total_nodes", "node_index", "node_url_pattern"), "listed_nodes")
    assert [name for name in load().describe() if behind.get(name, name) not in read] == []


@given(st.text("ABCD_", min_size=1, max_size=8), st.data())
def test_every_single_edit_is_one_typo(word, data):
    place = data.draw(st.integers(0, len(word) - 1))
    letter = data.draw(st.sampled_from("ABCDX"))
    edits = {
        word[:place] + word[place + 1 :],
        word[:place] + letter + word[place + 1 :],
        word[:place] + letter + word[place:],
        word[:place] + word[place : place + 2][::-1] + word[place + 2 :],
    }
    assert all(is_one_typo_away(word, edit) for edit in edits - {word})
    assert not is_one_typo_away(word, word)
    assert not is_one_typo_away(word, word + "XY")


@given(st.integers(0, 2**50))
def test_shown_sizes_read_back(size):
    assert load({"ELACSYM_CACHE_DISK_BYTES": show_bytes(size)}).cache_disk_bytes == size


@pytest.mark.parametrize(
    "address",
    ["http://a", "https://a-b.c_d.:443/", "http://[::1]:3000", "http://10.0.0.1:1", "http://localhost"],
)
def test_the_address_of_a_node_may_be_a_name_or_a_number(address):
    assert load({"ELACSYM_ADVERTISE_URL": address}).advertise_url == address.rstrip("/")


@pytest.mark.parametrize(
    "address",
    [
        "a:3000",
        "ftp://a",
        "http://",
        "http://a/path",
        "http://a?b",
        "http://me@a",
        "http://a:0",
        "http://a:65536",
        "http://a b",
        # these would fail when the name is looked up, in the middle of somebody's write
        "http://a..b:3000",
        "http://.a",
        "http://" + "a" * 64,
        "http://a\\b",
        "http://[::1",
        "http://[1:2]:3000",
    ],
)
def test_an_address_that_no_node_can_have_is_refused(address):
    with pytest.raises(InvalidSetting, match=r"ELACSYM_ADVERTISE_URL: .* an address http://host:port"):
        load({"ELACSYM_ADVERTISE_URL": address})
