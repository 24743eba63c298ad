"""What starts with the operator, and what must not."""

import json
import subprocess
import sys

SDKS = {
    *("boto3", "botocore", "github", "pinecone", "psycopg", "azure", "google", "gitlab", "nacl"),
    *("grpclib", "modal_proto", "redis"),
}
CATALOGUE = """
import json, sys
from auterity.cli import main
from auterity.providers import catalogue
from auterity.runtime import app
found = catalogue()
# Google's packages put an empty namespace into every interpreter.
loaded = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
modules = sorted({name.split(".")[0] for name in loaded})
print(json.dumps({"providers": len(found), "modules": modules}))
"""


def test_the_whole_catalogue_loads_no_vendor_sdk():
    done = subprocess.run(
        [sys.executable, "-c", CATALOGUE], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["providers"] >= 5
    assert SDKS & set(told["modules"]) == set()
    assert "auterity" in told["modules"]


ADMISSION = """
import sys
from auterity.cli import main
from auterity.providers import catalogue
from auterity.runtime import app
catalogue()
print(*sorted(sys.modules))
"""


def test_admission_costs_nothing_where_it_is_off():
    done = subprocess.run(
        [sys.executable, "-c", ADMISSION], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    only = {"auterity.runtime.admission", "auterity.runtime.certificates", "auterity.engine.advice"}
    assert not loaded & {*only, "cryptography"}
    assert "auterity.runtime.app" in loaded
