"""`auterity import` writes manifests of what exists, which take it over unchanged."""

import json
from pathlib import Path

import yaml

from auterity.api import API_VERSION
from tests.fakes.pinecone import Pinecone
from tests.unit.cli.stand_in import writes

FLAGS = ("--no-cluster", "--allow-insecure-endpoints")


def connection(folder: Path, vendor: Pinecone) -> str:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pinecone"}}
    ((name, data),) = Pinecone.secrets.items()
    documents = [
        {
            "apiVersion": API_VERSION,
            "kind": "Connection",
            "metadata": {"name": "prod"},
            "spec": {"pinecone": vendor.connection(vendor.url)},
        },
        {**secret, "metadata": {"name": name}, "stringData": data},
    ]
    path = folder / "connection.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def test_what_exists_is_imported_checked_and_taken_over_without_a_change(run, tmp_path, pinecone):
    vendor, there = pinecone
    for name, owner in (("docs", None), ("faq", None), ("theirs", "other/team/theirs")):
        there(lambda name=name, owner=owner: vendor.foreign(Pinecone.spec, name, owner))
    there(vendor.settle)
    with_connection = connection(tmp_path, vendor)
    folder = tmp_path / "made"

    code, out, err = run(
        *("import", "vidx", "pinecone", "-c", "prod", "-f", with_connection, "-d", str(folder)),
        *FLAGS,
    )
    assert code == 0, err
    assert {path.name for path in folder.iterdir()} == {"docs.yaml", "faq.yaml"}
    assert "theirs is left out: it belongs to other/team/theirs" in err
    made = yaml.safe_load((folder / "docs.yaml").read_text())
    assert made["spec"]["policy"] == "Adopt"
    assert made["spec"]["dimension"] == 1024
    assert made["spec"]["deletionPolicy"] == "Retain"

    both = ("-f", with_connection, "-f", str(folder))
    assert run("check", "--strict", *both)[0] == 0
    code, out, _ = run("plan", *both, *FLAGS, "-o", "json")
    plans = json.loads(out)["objects"]
    assert [(one["action"], one["changes"]) for one in plans] == [("Adopt", []), ("Adopt", [])]
    assert code == 2
    assert writes(vendor.server.requests) == []


def test_a_named_one_is_imported_to_standard_output(run, tmp_path, pinecone):
    vendor, there = pinecone
    there(lambda: vendor.foreign(Pinecone.spec, "docs", None))
    there(vendor.settle)
    args = ("import", "VectorIndex", "pinecone", "-c", "prod", "-f", connection(tmp_path, vendor))
    code, out, _ = run(*args, *FLAGS, "--name", "docs")
    assert code == 0
    assert out.startswith("# Imported from pinecone.")
    assert yaml.safe_load(out)["metadata"] == {"name": "docs"}
    code, _, err = run(*args, *FLAGS, "--name", "nonesuch")
    assert (code, "there is no nonesuch at pinecone" in err) == (1, True)


def test_what_cannot_be_done_is_said(run, tmp_path, pinecone):
    vendor, _ = pinecone
    files = ("-f", connection(tmp_path, vendor), *FLAGS)
    for args, words in (
        (("vidx", "nonesuch", "-c", "prod"), "is not offered at 'nonesuch'; it is at: "),
        (("nonesuch", "pinecone", "-c", "prod"), "there is no kind 'nonesuch'"),
        (("vidx", "pinecone", "-c", "Bad Name"), "write NAME or ClusterConnection/NAME"),
        (("vidx", "pinecone", "-c", "other"), "Connection 'other' does not exist"),
        (("vidx", "pinecone", "-c", "prod"), "nothing that is free to be taken over"),
        (("vidx", "pinecone", "-c", "prod", "--set", "nonesuch=1"), "write FIELD=VALUE"),
    ):
        code, out, err = run("import", *args, *files)
        assert (code, out) == (1, "")
        assert words in err
