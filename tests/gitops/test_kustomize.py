"""The CRDs as a base for kustomize, by the kustomize in kubectl."""

import subprocess

import yaml

from tools.controlplane import build
from tools.generate import ROOT

CRDS = ROOT / "crds"


class Loader(yaml.SafeLoader):
    """Takes a bare = for what it is: PyYAML knows it as YAML 1.1's default value."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def test_the_base_has_every_crd_as_it_is():
    args = [str(build() / "kubectl"), "kustomize", str(CRDS)]
    told = subprocess.run(args, capture_output=True, text=True, check=True).stdout
    documents = yaml.load_all(told, Loader)  # a SafeLoader
    rendered = {document["metadata"]["name"]: document for document in documents}
    committed = [yaml.safe_load(path.read_text()) for path in CRDS.glob("*.yaml")]
    assert rendered == {document["metadata"]["name"]: document for document in committed}


def test_the_base_is_no_manifest_to_kubectl_apply():
    assert not [
        path for path in CRDS.iterdir() if "kustomization" in path.name.lower() and path.suffix
    ]
