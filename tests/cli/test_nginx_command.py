"""`elacsym cluster nginx`."""

from elacsym.cluster.nginx import render

INDEXERS = ["http://a:3000", "http://b:3000"]
FLAGS = ["--indexer", "http://a:3000", "--indexer", "http://b:3000"]


def test_the_configuration_is_printed_and_its_first_lines_make_it_again(elacsym):
    flags = ["--query-node", "http://c:3000", "--listen", "127.0.0.1:81"]
    flags += ["--body-mib-max", "7", "--read-timeout-s", "99"]
    code, printed, _ = elacsym("cluster", "nginx", *FLAGS, *flags)
    assert code == 0
    assert printed == render(
        INDEXERS, ["http://c:3000"], listen="127.0.0.1:81", body_mib_max=7, read_timeout_s=99
    )
    command = printed.split("worker_processes")[0].replace("# Made by: elacsym ", "").replace("\\\n#", "")
    assert elacsym(*command.split()) == (0, printed, "")


def test_without_limits_they_are_those_of_the_nodes(elacsym):
    assert elacsym("cluster", "nginx", *FLAGS) == (0, render(INDEXERS), "")


def test_an_address_that_is_none_is_a_usage_error(elacsym):
    code, printed, said = elacsym("cluster", "nginx", "--indexer", "a:3000")
    assert (code, printed) == (2, "")
    assert "'a:3000' is no address of a node" in said
    assert elacsym("cluster", "nginx")[0] == 2
