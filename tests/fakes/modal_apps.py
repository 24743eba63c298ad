"""Apps and Secrets of Modal's environment, beside its endpoints; a pipeline of others deploys.

What Modal's messages do not say is as its SDK 1.6.4 has it: that setting tags replaces all, that a
deployment resets the autoscaler, that a Secret is looked up by a GetOrCreate without a way to
create, that its keys are told and its values are not. That a deployment brings the tags of the code
and no others is this fake's, since nothing says that Modal keeps them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from auterity.providers.modal.app import FUNCTION_TAG
from auterity.providers.modal.secret import secret_name
from auterity.transport.labels import owner_labels
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.modal import (
    DEFAULTS,
    ENVIRONMENT,
    JSON,
    WORKSPACE,
    Call,
    Modal,
    Workspace,
    in_environment,
)

TAG = re.compile(r"[A-Za-z0-9._-]{1,63}")
OBJECT = re.compile(r"[A-Za-z0-9._-]{1,64}")
FUNCTIONS = ("serve", "train", "Model.*", "Chat")
"""What the code has: a web function, a plain one, a class with a web method, and a server."""
NEW_TOKEN = "hf_fakeFAKE3wYk9Tn6Vc1"
CREATE = api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS


@dataclass
class Function:
    """A function of an App that is deployed."""

    id: str
    name: str
    settings: Any = field(default_factory=api_pb2.AutoscalerSettings)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to what the code says of the autoscaler."""
        self.settings.CopyFrom(DEFAULTS)


@dataclass
class App:
    """An App, deployed or stopped."""

    id: str
    name: str
    tags: dict[str, str]
    state: api_pb2.AppState.ValueType = api_pb2.APP_STATE_DEPLOYED
    deployments: list[str] = field(default_factory=list)
    """The tag of each, in the order of their versions."""
    functions: dict[str, Function] = field(default_factory=dict)


class AppWorkspace(Workspace):
    """The workspace with Apps. Whoever waits for one has a pipeline that deploys it, in time."""

    def reset(self) -> None:
        super().reset()
        self.apps: dict[str, App] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        """By name; the id is made of it."""
        self.tells_keys = True
        self.awaited: set[str] = set()
        """Names of Apps that were asked about and are not deployed."""

    def calls(self) -> tuple[Call, ...]:
        return (
            *super().calls(),
            *(self.app_get_by_deployment_name, self.app_get_tags, self.app_set_tags),
            *(self.app_deployment_history, self.app_stop, self.function_get),
            *(self.secret_get_or_create, self.secret_update, self.secret_delete),
        )

    # What others do

    def deploy(
        self,
        name: str,
        *functions: str,
        tag: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> App:
        """As `modal deploy` does, by somebody else."""
        if (app := self.deployed(name)) is None:
            app = App(f"ap-{next(self.ids):022d}", name, {})
            self.apps[app.id] = app
        app.deployments.append(tag)
        app.tags = dict(tags or {})
        named = functions or FUNCTIONS
        app.functions = {
            one: app.functions.get(one) or Function(f"fu-{next(self.ids):022d}", one)
            for one in named
        }
        for one in app.functions.values():
            one.reset()
        self.awaited.discard(name)
        return app

    def settle(self) -> None:
        super().settle()
        for app in self.apps.values():
            if app.state == api_pb2.APP_STATE_STOPPING:
                app.state = api_pb2.APP_STATE_STOPPED
        for name in sorted(self.awaited):
            # The code names the Secret: without it, modal deploy fails.
            if secret_name(name) in self.secrets:
                self.deploy(name)

    def deployed(self, name: str) -> App | None:
        gone = api_pb2.APP_STATE_STOPPED
        return next((a for a in self.apps.values() if a.name == name and a.state != gone), None)

    # Calls

    def app_get_by_deployment_name(self, asked: Any) -> Message:
        in_environment(asked.environment_name)
        told = api_pb2.AppGetByDeploymentNameResponse(environment_name=ENVIRONMENT)
        if (app := self.deployed(asked.name)) is None:
            self.awaited.add(asked.name)
            earlier = [one.id for one in self.apps.values() if one.name == asked.name]
            told.previous_app_id = next(reversed(earlier), "")
            return told
        told.app_id = app.id
        told.lifecycle.app_state, told.lifecycle.version = app.state, len(app.deployments)
        return told

    def app_get_tags(self, asked: Any) -> Message:
        return api_pb2.AppGetTagsResponse(tags=self._app(asked.app_id).tags)

    def app_set_tags(self, asked: Any) -> Message:
        for text in (*asked.tags, *asked.tags.values()):
            if not TAG.fullmatch(text):
                raise GRPCError(Status.INVALID_ARGUMENT, f"Invalid tag: {text}")
        self._app(asked.app_id).tags = dict(asked.tags)
        return Empty()

    def app_deployment_history(self, asked: Any) -> Message:
        app = self._app(asked.app_id)
        told = api_pb2.AppDeploymentHistoryResponse(production_app_version=len(app.deployments))
        for version, tag in enumerate(app.deployments, 1):
            told.app_deployment_histories.add(app_id=app.id, version=version, tag=tag)
        return told

    def app_stop(self, asked: Any) -> Message:
        app = self._app(asked.app_id)
        if asked.source == api_pb2.APP_STOP_SOURCE_UNSPECIFIED:
            raise GRPCError(Status.INVALID_ARGUMENT, "source is needed")
        app.state = api_pb2.APP_STATE_STOPPING if self.slow else api_pb2.APP_STATE_STOPPED
        return Empty()

    def function_get(self, asked: Any) -> Message:
        in_environment(asked.environment_name)
        app = self.deployed(asked.app_name)
        found = app and app.functions.get(asked.object_tag)
        if app is None or found is None:
            where = f"'{asked.object_tag}' from the '{asked.app_name}' app"
            raise GRPCError(Status.NOT_FOUND, f"Lookup failed for Function {where}")
        told = api_pb2.FunctionGetResponse(function_id=found.id)
        handle, data = told.handle_metadata, told.function
        handle.function_name, handle.app_id = found.name, app.id
        if found.name == "serve":
            handle.web_url = f"https://{WORKSPACE}--{app.name}-serve.modal.run"
            data.webhook_config.requires_proxy_auth = True
        elif found.name == "Model.*":
            method = handle.method_handle_metadata["web"]
            method.web_url = f"https://{WORKSPACE}--{app.name}-model-web.modal.run"
            data.method_definitions["web"].webhook_config.SetInParent()
        elif found.name == "Chat":
            data.is_server = True
            getattr(handle, "_experimental_flash_urls").append(  # noqa: B009 - a private-looking name
                f"https://{WORKSPACE}--{app.name}-chat.us-east.modal.direct"
            )
        return told

    def secret_get_or_create(self, asked: Any) -> Message:
        in_environment(asked.environment_name)
        name, there = asked.deployment_name, asked.deployment_name in self.secrets
        if asked.object_creation_type == CREATE:
            if there:
                raise GRPCError(Status.ALREADY_EXISTS, f"Secret '{name}' already exists")
            if not OBJECT.fullmatch(name):
                raise GRPCError(Status.INVALID_ARGUMENT, f"Invalid Secret name: '{name}'")
            self.secrets[name] = dict(asked.env_dict)
        elif asked.object_creation_type or asked.env_dict:
            raise GRPCError(Status.INVALID_ARGUMENT, "this way of creating is not known here")
        elif not there:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{name}' not found in '{ENVIRONMENT}'")
        told = api_pb2.SecretGetOrCreateResponse(secret_id=f"st-{name}")
        told.metadata.name = name
        if self.tells_keys:
            told.metadata.keys.extend(self.secrets[name])
        return told

    def secret_update(self, asked: Any) -> Message:
        held = self.secrets[self._secret(asked.secret_id)]
        for update in asked.updates:
            if update.HasField("value"):
                held[update.key] = update.value
            else:
                held.pop(update.key, None)
        return Empty()

    def secret_delete(self, asked: Any) -> Message:
        del self.secrets[self._secret(asked.secret_id)]
        return Empty()

    def _app(self, id: str) -> App:
        if (app := self.apps.get(id)) is None:
            raise GRPCError(Status.NOT_FOUND, f"App {id} not found")
        return app

    def _secret(self, id: str) -> str:
        if (name := id.removeprefix("st-")) not in self.secrets:
            raise GRPCError(Status.NOT_FOUND, f"Secret {id} not found")
        return name

    def _serving(self, server: str) -> Any:
        for app in self.apps.values():
            for one in app.functions.values():
                if one.id == server and app.state == api_pb2.APP_STATE_DEPLOYED:
                    return one
        return super()._serving(server)


class ModalApps(Modal):
    """An environment in which a pipeline deploys the App that is waited for."""

    variant = "app"
    spec: ClassVar[JSON] = {
        "model": {},
        "scaling": {"min": 0, "max": 2, "toZeroAfter": "5m"},
        "environment": [
            {"name": "HF_TOKEN", "secretKeyRef": {"name": "hugging-face", "key": "token"}},
            {"name": "LOG_LEVEL", "value": "info"},
        ],
        "modal": {"app": {"function": "serve"}},
    }
    edits = (
        Edit("more containers", {"scaling": {"max": 4}}),
        Edit("always one container", {"scaling": {"min": 1, "toZeroAfter": None}}),
        Edit("a container in reserve", {"modal": {"bufferContainers": 1}}),
        Edit(
            "another value", {"environment": [spec["environment"][0], {"name": "A", "value": ""}]}
        ),
        Edit("a variable less", {"environment": spec["environment"][:1]}),
        Edit("no variables", {"environment": []}),
        Edit("a method of a class", {"modal": {"app": {"function": "Model.web"}}}),
    )
    immutable: ClassVar[JSON] = {
        "model": {"name": "Qwen/Qwen3.5-4B"},
        "environment": None,
        "modal": {"app": None},
    }
    refusal = Refusal({"scaling": {"toZeroAfter": "2h"}}, "must be between 2 and 3600 seconds")
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {"hugging-face": {"token": NEW_TOKEN}}

    def __init__(self) -> None:
        super().__init__()
        self.workspace: AppWorkspace = AppWorkspace()

    async def count(self) -> int:
        stopped = api_pb2.APP_STATE_STOPPED
        apps = [app for app in self.workspace.apps.values() if app.state != stopped]
        return await super().count() + len(apps) + len(self.workspace.secrets)

    async def tamper(self, id: str) -> str:
        self.of(id)[1].settings.max_containers = 9
        return "scaling.max"

    async def vanish(self, id: str) -> None:
        self.of(id)[0].state = api_pb2.APP_STATE_STOPPED
        self.workspace.secrets.clear()
        self.workspace.awaited.clear()

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        function = spec["modal"]["app"]["function"]
        tags = {**owner_labels(owner), FUNCTION_TAG: function} if owner else {"team": "chat"}
        self.workspace.deploy(name, function, tags=tags)

    async def told(self, id: str) -> str:
        app, function = self.of(id)
        return f"{app.tags} {function.settings} {self.workspace.secrets}"

    def of(self, id: str) -> tuple[App, Function]:
        """What is deployed under an id of the provider's."""
        name, _, function = id.partition("/")
        app = self.workspace.deployed(name)
        assert app is not None
        thing, _, method = function.partition(".")
        return app, app.functions[f"{thing}.*" if method else thing]
