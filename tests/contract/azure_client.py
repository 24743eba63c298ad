"""Makes and deletes things at a stand-in by Azure's own clients. Run where those are installed.

What the clients make of the stand-in's answers is told as JSON: a stand-in that they do not get
along with is none of Azure.
"""

import importlib
import json
import sys
import time
from typing import Any

import azure_sdk  # type: ignore[import-not-found]  # stands beside this file

URL, TOKEN, SUBSCRIPTION, GROUP, ACCOUNT, WORKSPACE, MODEL = sys.argv[1:]
PLAIN: dict[str, Any] = {"enforce_https": False, "retry_total": 0}


class Credential:
    """A token that the stand-in has given out."""

    def get_token(self, *_: str, **__: Any) -> Any:
        token = importlib.import_module("azure.core.credentials").AccessToken
        return token(TOKEN, int(time.time()) + 3600)


def client(package: str, name: str) -> Any:
    azure_sdk.loaded(package)
    made = getattr(importlib.import_module(package), name)
    return made(
        Credential(),
        SUBSCRIPTION,
        base_url=URL,
        credential_scopes=["https://management.azure.com/.default"],
    )


def deployments() -> list[Any]:
    models, _ = azure_sdk.loaded(azure_sdk.COGNITIVE)
    own = client(azure_sdk.COGNITIVE, "CognitiveServicesManagementClient").deployments
    where = (GROUP, ACCOUNT, "by-the-sdk")
    wanted = models.Deployment(
        sku=models.Sku(name="Standard", capacity=5),
        properties=models.DeploymentProperties(
            model=models.DeploymentModel(format="OpenAI", name="gpt-4.1", version="2025-04-14"),
            version_upgrade_option="NoAutoUpgrade",
        ),
    )
    own.begin_create_or_update(*where, wanted, polling=False, **PLAIN)
    own.get(*where, **PLAIN)
    got = own.get(*where, **PLAIN)
    names = [one.name for one in own.list(*where[:2], **PLAIN)]
    own.begin_delete(*where, polling=False, **PLAIN)
    told = got.properties
    return [told.provisioning_state, told.model.version, got.sku.capacity, names]


def endpoints() -> list[Any]:
    models, _ = azure_sdk.loaded(azure_sdk.MACHINE_LEARNING)
    it = client(azure_sdk.MACHINE_LEARNING, azure_sdk.CLIENT)
    where = (GROUP, WORKSPACE, "by-the-sdk")
    endpoint = models.OnlineEndpoint(
        location="westeurope",
        identity=models.ManagedServiceIdentity(type="SystemAssigned"),
        properties=models.OnlineEndpointProperties(auth_mode="Key"),
    )
    it.online_endpoints.begin_create_or_update(*where, endpoint, polling=False, **PLAIN)
    list(it.online_deployments.list(*where, **PLAIN))
    deployment = models.OnlineDeployment(
        location="westeurope",
        sku=models.Sku(name="Default", capacity=1),
        properties=models.ManagedOnlineDeployment(
            model=MODEL, instance_type="Standard_DS3_v2", environment_variables={"A": "b"}
        ),
    )
    it.online_deployments.begin_create_or_update(*where, "blue", deployment, polling=False, **PLAIN)
    list(it.online_deployments.list(*where, **PLAIN))
    got = it.online_deployments.get(*where, "blue", **PLAIN)
    keys = it.online_endpoints.list_keys(*where, **PLAIN)
    it.online_endpoints.begin_delete(*where, polling=False, **PLAIN)
    told = got.properties
    kind = type(told).__name__
    return [kind, told.provisioning_state, told.environment_variables, bool(keys.primary_key)]


if __name__ == "__main__":
    json.dump({"deployments": deployments(), "endpoints": endpoints()}, sys.stdout)
