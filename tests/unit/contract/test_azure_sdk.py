"""Azure's own clients get along with the stand-ins, and the description with what they send."""

import asyncio

import pytest

from tests.contract import resource_manager
from tests.fakes.azure import MANAGEMENT, SUBSCRIPTION, Azure
from tests.fakes.azure_ml import MODEL, WORKSPACE, Workspace
from tests.fakes.azure_openai import ACCOUNT, Accounts
from tools import environments
from tools.cache import InstallError


async def test_azures_own_clients_get_along_with_the_stand_ins() -> None:
    try:
        environments.install("azure")
    except InstallError as error:
        pytest.skip(f"Azure's SDKs cannot be installed here: {error}")
    azure = Azure()
    accounts, workspace = Accounts(azure), Workspace(azure)
    azure.tokens["token-for-the-sdk"] = MANAGEMENT
    url = await azure.server.start()
    try:
        told = await asyncio.to_thread(
            resource_manager.by_the_sdk,
            "azure_client.py",
            url,
            "token-for-the-sdk",
            SUBSCRIPTION,
            "models",
            ACCOUNT,
            WORKSPACE,
            MODEL,
        )
    finally:
        await azure.server.stop()
    assert azure.server.violations == []
    assert told == {
        "deployments": ["Succeeded", "2025-04-14", 5, ["by-the-sdk"]],
        "endpoints": ["ManagedOnlineDeployment", "Succeeded", {"A": "b"}, True],
    }
    assert accounts.deployments["by-the-sdk"]["properties"]["provisioningState"] == "Deleting"
    assert workspace.endpoints["by-the-sdk"]["properties"]["provisioningState"] == "Deleting"
