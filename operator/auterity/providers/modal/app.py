"""An App at Modal that others deploy from its source (https://modal.com/docs/guide/apps)."""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from auterity.api.model_deployment import EnvironmentVariable, ModelSource
from auterity.engine.contract import Observed, Phase
from auterity.engine.errors import Busy, NotFound, Rejected
from auterity.providers.modal import scaling
from auterity.providers.modal.forms import NO_TOKEN, PROXY_TOKEN, Form, headers
from auterity.providers.modal.params import OF_ENDPOINTS, ModalApp, ModalDeploymentParams
from auterity.providers.modal.secret import LONGEST, ModalSecret, secret_name
from auterity.transport.labels import OUR_LABELS, owner_labels, owner_of
from auterity.transport.modal import JSON

SEPARATOR: Final = "/"
"""Between App and function in an id; in no name of Modal's, nor in an endpoint's id."""
FUNCTION_TAG: Final = f"{OUR_LABELS}function"
"""Beside the mark: the function that is kept."""
STATE: Final = "APP_STATE_"
STOPPED: Final = ("STOPPED", "DISABLED")
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
ID: Final = re.compile(r"ap-[A-Za-z0-9]{22}")
QUIRKS: Final = (
    (
        "modal.app keeps an App that is deployed elsewhere: the operator runs nobody's code. Until "
        "somebody has run modal deploy, for instance a workflow of a CIPipelineBinding, the object "
        "is Progressing and says what to run."
    ),
    (
        "The App is called as the object is, or spec.externalName: deploy it under that name. One "
        "that was there before the object is taken over by policy: Adopt."
    ),
    (
        "An App, other than an endpoint, carries the mark in its tags, beside those of others. A "
        "deployment resets the autoscaler to what the code says, and may take the mark away: both "
        "are drift, and mended at the next visit. spec.interval says how soon, and createOnly: "
        "[scaling] leaves the autoscaler to the code."
    ),
    (
        "spec.environment becomes a Secret at Modal called auterity-<App>, which the code has to "
        "name: modal.Secret.from_name. It is there before the App is. Containers read it when they "
        "start, so those that run keep the values that they have."
    ),
    (
        "deletionPolicy: Delete stops the App and its containers at once, and deletes that Secret; "
        "the code and its history stay at Modal. With Retain all of it stays, the tags too."
    ),
    "One ModelDeployment keeps one function of an App; others are left to the code.",
)


@dataclass(frozen=True, slots=True)
class Serving:
    """A function of an App, as deployed."""

    id: str
    url: str | None
    authentication: str | None
    """None if Modal does not tell."""


def objections(want: ModalDeploymentParams) -> dict[str, str]:
    """What an App cannot be told from outside."""
    found: dict[str, str] = {}
    if not NAME.fullmatch(want.name) or ID.fullmatch(want.name):
        found["name"] = "Modal takes 1 to 64 letters, digits, dots, dashes and underscores"
    elif want.environment and len(secret_name(want.name)) > LONGEST:
        found["name"] = f"too long for a Secret that is called {secret_name('<name>')}"
    if any(getattr(want.model, name) is not None for name in ModelSource.model_fields):
        found["model"] = (
            "the App's code says what it serves: set model: {}, and hand over what the code is to "
            "know by environment, such as MODEL from an outputRef"
        )
    if want.hardware is not None:
        found["hardware"] = "the App's code says it: leave it out"
    for name in OF_ENDPOINTS:
        if getattr(want, name):
            found[name] = "is for endpoints: the App's code says it"
    return found


class Apps(Form):
    """Apps by their name, which stays the same over deployments, and the function that serves."""

    wrote = False
    """In this visit: what is left is then under way, and not broken."""
    tag: str | None = None
    """The deployment that this visit wants."""

    async def locate(self, want: ModalDeploymentParams) -> str | None:
        return f"{want.name}{SEPARATOR}{_declared(want).function}"

    async def read(self, id: str) -> Observed[ModalDeploymentParams] | None:
        app, _, function = id.partition(SEPARATOR)
        told, variables = await self._deployed(app), await self._secret(app).read()
        if told is None and variables is None:
            return None
        # Modal has no say in the model: what is declared of it belongs to an endpoint.
        fields: JSON = {"model": ModelSource.told(None)}
        if variables != []:
            # Of an older server it is not told what a Secret has.
            names = variables or ()
            fields["environment"] = [EnvironmentVariable.model_construct(name=n) for n in names]
        outputs = {"app": app}
        if variables is not None:
            outputs["secret"] = secret_name(app)
        if told is None:
            fields["app"] = None
            return self._waiting(id, fields, outputs, self._undeployed(app))
        if told["lifecycle"]["app_state"] == f"{STATE}STOPPING":
            actual = ModalDeploymentParams.seen(**fields)
            return Observed(id, actual, Phase.DELETING, message="Modal is stopping the App")
        tags = await self._tags(told["app_id"])
        if owner := owner_of(tags):
            function = tags.get(FUNCTION_TAG, function)
            id = f"{app}{SEPARATOR}{function}"
        serving, (version, tag) = await self._serving(app, function), await self._version(told)
        # Of an App without a mark nothing is kept yet: that differs, and the update claims it.
        claimed = owner is not None and serving is not None
        fields["app"] = ModalApp.model_construct(function=function, tag=tag) if claimed else None
        summary = {"version": version} | ({"tag": tag} if tag else {})
        if serving is None:
            return self._waiting(id, fields, outputs, _lacks(app, function), owner, summary)
        fields |= await scaling.settings_of(self.session, serving.id)
        return Observed(
            id,
            ModalDeploymentParams.seen(**fields),
            owner=owner,
            outputs=outputs | {"function": function} | _outputs(serving),
            summary=summary,
        )

    async def create(self, want: ModalDeploymentParams, owner: str) -> str:
        self.tag = _declared(want).tag
        # What the code names must be there before it is deployed.
        if want.environment:
            await self._secret(want.name).create(want.environment)
            self.wrote = True
        elif not (await self._named(want.name)).get("app_id"):
            raise Busy(self._undeployed(want.name))
        return f"{want.name}{SEPARATOR}{_declared(want).function}"

    async def update(
        self, id: str, want: ModalDeploymentParams, changed: frozenset[str], owner: str
    ) -> None:
        if want.app is None:
            raise Rejected(
                f"{id} is an App, which cannot become an endpoint: declare another ModelDeployment"
            )
        self.tag = want.app.tag
        if names := _below(changed, "environment"):
            await self._secret(want.name).update(want.environment, names)
            self.wrote = True
        left = await self._keep(want, want.app, changed, owner)
        if left and not self.wrote:
            # Only a deployment brings it. What was written has to be remembered first.
            raise Busy(left)

    async def delete(self, id: str) -> None:
        app = id.partition(SEPARATOR)[0]
        if told := await self._deployed(app):
            with suppress(NotFound):
                await self.session.call(
                    "AppStop", app_id=told["app_id"], source="APP_STOP_SOURCE_PYTHON_CLIENT"
                )
        await self._secret(app).delete()

    async def _keep(
        self, want: ModalDeploymentParams, form: ModalApp, changed: frozenset[str], owner: str
    ) -> str | None:
        """Claim the App and set its autoscaler; what only a deployment can bring, if anything."""
        if (told := await self._deployed(want.name)) is None:
            return self._undeployed(want.name)
        await self._claim(told["app_id"], {**owner_labels(owner), FUNCTION_TAG: form.function})
        if (serving := await self._serving(want.name, form.function)) is None:
            return _lacks(want.name, form.function)
        if settings := scaling.declared(want, changed):
            await self.session.call(
                "FunctionUpdateSchedulingParams", function_id=serving.id, settings=settings
            )
            self.wrote = True
        if form.tag is None or not changed & {"app", "app.tag"}:
            return None
        _, tag = await self._version(told)
        if tag == form.tag:
            return None
        now = f"deployment {tag}" if tag else "a deployment without a tag"
        return f"{want.name} is {now}, not {form.tag}: run {self._command(want.name)}"

    async def _claim(self, app_id: str, ours: dict[str, str]) -> None:
        """Write our tags; setting them replaces all."""
        before = await self._tags(app_id)
        others = {key: value for key, value in before.items() if not key.startswith(OUR_LABELS)}
        if before != (tags := others | ours):
            await self.session.call("AppSetTags", app_id=app_id, tags=tags)
            self.wrote = True

    async def _deployed(self, app: str) -> JSON | None:
        """What Modal tells of the App of that name; None if none is deployed."""
        try:
            told = await self._named(app)
        except NotFound:
            # There is no such environment.
            return None
        state = told.setdefault("lifecycle", {}).setdefault("app_state", f"{STATE}UNSPECIFIED")
        gone = state.removeprefix(STATE) in STOPPED
        return told if told.get("app_id") and not gone else None

    async def _named(self, app: str) -> JSON:
        return await self.session.call(
            "AppGetByDeploymentName", name=app, environment_name=self.session.environment
        )

    async def _tags(self, app_id: str) -> dict[str, str]:
        told = await self.session.find("AppGetTags", app_id=app_id)
        return dict((told or {}).get("tags", {}))

    async def _version(self, told: JSON) -> tuple[str, str | None]:
        """Number and tag of the deployment that serves."""
        found = await self.session.find("AppDeploymentHistory", app_id=told["app_id"]) or {}
        version = found.get("production_app_version") or told["lifecycle"].get("version", 0)
        tags = {one.get("version"): one.get("tag") for one in _history(found)}
        return str(version), tags.get(version) or None

    async def _serving(self, app: str, function: str) -> Serving | None:
        """The function as it is deployed; None if there is none of that name."""
        # Methods are served by one function of their class, which has this name.
        name, _, method = function.partition(".")
        told = await self.session.find(
            "FunctionGet",
            app_name=app,
            object_tag=f"{name}.*" if method else name,
            environment_name=self.session.environment,
        )
        if told is None:
            return None
        handle, data = told.get("handle_metadata", {}), told.get("function", {})
        webhook = data.get("webhook_config")
        if method:
            methods = handle.get("method_handle_metadata", {})
            if methods and method not in methods:
                return None
            handle = methods.get(method, {})
            webhook = data.get("method_definitions", {}).get(method, {}).get("webhook_config")
        url = handle.get("web_url") or next(iter(handle.get("_experimental_flash_urls", ())), None)
        return Serving(told["function_id"], url, _authentication(data, webhook))

    def _secret(self, app: str) -> ModalSecret:
        return ModalSecret(self.session, secret_name(app))

    def _waiting(  # noqa: PLR0913 - what is known of an App that does not serve
        self,
        id: str,
        fields: JSON,
        outputs: dict[str, str],
        message: str,
        owner: str | None = None,
        summary: dict[str, str] | None = None,
    ) -> Observed[ModalDeploymentParams]:
        """Open to changes, as something broken is: what the code needs may be what is missing."""
        phase = Phase.PENDING if self.wrote else Phase.FAILED
        actual = ModalDeploymentParams.seen(**fields)
        return Observed(id, actual, phase, owner, outputs, message=message, summary=summary or {})

    def _undeployed(self, app: str) -> str:
        return f"the App {app} is not deployed at Modal: run {self._command(app)}"

    def _command(self, app: str) -> str:
        tagged = f" --tag {self.tag}" if self.tag else ""
        return f"modal deploy --name {app} --env {self.session.environment}{tagged} with its code"


def _declared(want: ModalDeploymentParams) -> ModalApp:
    # Also as `auterity import --set app={function: serve}` gives it.
    return ModalApp.model_validate(want.app)


def _lacks(app: str, function: str) -> str:
    return f"the App {app} has no function {function}: deploy code that has it, or name another"


def _below(changed: frozenset[str], field: str) -> set[str]:
    """Names of the entries of a keyed list that have changed."""
    parts = (path.split(".") for path in changed)
    return {part[1] for part in parts if part[0] == field and len(part) > 1}


def _history(found: JSON) -> list[JSON]:
    return list(found.get("app_deployment_histories", ()))


def _authentication(data: JSON, webhook: JSON | None) -> str | None:
    if data.get("is_server"):
        return NO_TOKEN if data.get("http_config", {}).get("unauthenticated") else PROXY_TOKEN
    if webhook is None:
        return None
    return PROXY_TOKEN if webhook.get("requires_proxy_auth") else NO_TOKEN


def _outputs(serving: Serving) -> dict[str, str]:
    if serving.url is None:
        return {"authentication": "a token of the workspace, by Modal's SDK"}
    told = {"url": serving.url, "curl": f"curl{headers(serving.authentication)} {serving.url}"}
    known = serving.authentication
    return told | ({"authentication": known} if known else {})
