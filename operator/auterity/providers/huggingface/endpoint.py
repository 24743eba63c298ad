"""Inference Endpoints (https://huggingface.co/docs/inference-endpoints)."""

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from auterity.api.fields import is_secret, seconds
from auterity.api.model_deployment import (
    EnvironmentVariable,
    ModelSource,
    Scaling,
    ScalingTarget,
)
from auterity.api.rollout import Probe
from auterity.engine.contract import Answer, Observed, Phase, Provider
from auterity.engine.errors import NotFound, Rejected, Unavailable
from auterity.providers.billing import Bill, of_replicas
from auterity.providers.huggingface.connection import HuggingFaceConnection, HuggingFaceSession
from auterity.providers.huggingface.params import (
    Container,
    HuggingFaceEndpointParams,
    PrivateLink,
)
from auterity.transport import http
from auterity.transport.endpoints import checked
from auterity.transport.rest import JSON

OWNER: Final = "auterity-owner:"
"""Begins the tag that carries the owner's mark."""
HIDDEN: Final = "auterity-secret:"
"""Begins the tag that names a secret variable: Hugging Face tells nothing of them."""
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
DEFAULT, CUSTOM = "huggingface", "custom"
PARALLEL: Final = {
    "tensor_parallel_size": ("tensorParallelSize", ("vLLM", "sGLang")),
    "data_parallel_size": ("dataParallelSize", ("vLLM",)),
}
"""Settings of a container that only these engines have; Hugging Face drops them of all others."""
OPENAI: Final = ("vLLM", "sGLang", "tgi", "llamacpp")
"""Engines that speak OpenAI's protocol."""
PHASES: Final = {
    "running": Phase.READY,
    "scaledToZero": Phase.READY,
    "paused": Phase.READY,
    "failed": Phase.FAILED,
    "updateFailed": Phase.FAILED,
}
"""Of all other states the endpoint leaves by itself."""
MEASURES: Final = {
    "ConcurrentRequests": "pendingRequests",
    "CPUUtilization": "hardwareUsage",
    "AcceleratorUtilization": "hardwareUsage",
}
COMPUTE: Final = {
    "accelerator": "accelerator",
    "hardware": "instanceType",
    "instance_size": "instanceSize",
}
SCALING: Final = {
    "scaling.min": "minReplica",
    "scaling.max": "maxReplica",
    "scaling.to_zero_after": "scaleToZeroTimeout",
    "scaling.target": "measure",
}
IMAGE: Final = {
    "port": "port",
    "health_route": "healthRoute",
    "tensor_parallel_size": "tensorParallelSize",
    "data_parallel_size": "dataParallelSize",
}
MINUTE: Final = 60


class HuggingFaceEndpoint(Provider[HuggingFaceEndpointParams, HuggingFaceSession]):
    """Inference Endpoints of one namespace, by name."""

    kind = "ModelDeployment"
    vendor = "huggingFace"
    params = HuggingFaceEndpointParams
    connection = HuggingFaceConnection
    lists = True
    probes = True
    poll_after = 15.0
    docs = "https://huggingface.co/docs/inference-endpoints"
    permissions = (
        "Make calls to Inference Endpoints (for spec.probe only)",
        "Manage Inference Endpoints",
        "Read access to the contents of the models that are deployed",
    )
    proof = (
        "stateful fake that Hugging Face's own client 2.4.0 was run against, and that takes what "
        "the client sends and nothing else: no official description of this API is public"
    )
    publishes = (
        ("name", "Name of the endpoint."),
        ("url", "Where requests are sent; there once it has been deployed."),
        ("model", "The model that it serves, as a request of OpenAI's clients names it."),
        ("openaiBaseUrl", "Base URL for OpenAI's clients, with an engine that speaks that."),
        ("authentication", "The header that a request needs, unless it is public."),
        ("curl", "A call to try it with."),
    )
    quirks = (
        "Names have at most 32 characters: lower-case letters, digits and inner hyphens.",
        (
            "hardware, instanceSize, accelerator, cloud and region have to fit to each other; "
            "otherwise Hugging Face answers that the instance was not found."
        ),
        (
            "A first deployment takes 2 to 15 minutes, and nothing can be changed meanwhile. One "
            "that does not come to an end usually has a wrong port or healthRoute: delete it."
        ),
        (
            "A new model, image or hardware replaces the old one by Hugging Face itself, which "
            "keeps the old replicas until the new ones are healthy. If they never are, the old "
            "ones go on serving, and the object tells why."
        ),
        "model.version is a commit of the model, in full: Hugging Face tells nothing else back.",
        (
            "scaling.target has the metrics ConcurrentRequests, and CPUUtilization or "
            "AcceleratorUtilization as fits the accelerator. toZeroAfter counts whole minutes."
        ),
        (
            "Of environment, what comes from a Secret is sent as a secret. Which names those are "
            "is remembered in the endpoint's tags."
        ),
        "An endpoint that is scaled to zero still counts towards the quota, a paused one does not.",
    )

    @classmethod
    def objections(cls, want: HuggingFaceEndpointParams) -> Mapping[str, str]:
        found = {}
        model, scaling = want.model, want.scaling
        if not NAME.fullmatch(want.name):
            found["name"] = (
                "Hugging Face takes 1 to 32 lower-case letters, digits and inner hyphens"
            )
        if model.artifact is not None or (model.name is None and model.model_ref is None):
            found["model"] = "Hugging Face serves models of its Hub: give name or modelRef"
        elif model.version is not None and not COMMIT.fullmatch(model.version):
            found["model"] = "version has to be a commit in full, 40 hexadecimal digits"
        if want.container is not None and model.image is None:
            found["container"] = "it says how model.image is run, and there is none"
        elif want.container is not None and (ignored := _ignored(want.container)):
            found["container"] = ignored
        if want.hardware is None:
            found["hardware"] = "Hugging Face needs an instance type, such as nvidia-l4"
        if scaling.target is not None and scaling.target.metric not in MEASURES:
            found["scaling"] = f"Hugging Face scales by {', '.join(MEASURES)}"
        elif scaling.to_zero_after and seconds(scaling.to_zero_after) % MINUTE:
            found["scaling"] = "toZeroAfter has to be whole minutes"
        return found

    @classmethod
    def billed(cls, want: HuggingFaceEndpointParams) -> Bill:
        if want.paused:
            return ()
        if want.hardware is None:
            return None
        item = f"{want.cloud}/{want.hardware}/{want.instance_size}"
        return (of_replicas(item, want.scaling),)

    async def read(self, id: str) -> Observed[HuggingFaceEndpointParams] | None:
        body = await self.session.find(self._path(id))
        return None if body is None else self._decoded(body)

    async def read_all(self) -> AsyncIterator[Observed[HuggingFaceEndpointParams]]:
        body = await self.session.call("GET", self.session.endpoints)
        if not isinstance(body, dict) or not isinstance(body.get("items"), list):
            raise Unavailable("Hugging Face's list of endpoints is not what its API promises")
        for item in body["items"]:
            yield self._decoded(item)

    async def create(
        self, want: HuggingFaceEndpointParams, owner: str
    ) -> Observed[HuggingFaceEndpointParams]:
        body: JSON = {
            "name": want.name,
            "type": want.type,
            "provider": {"vendor": want.cloud, "region": want.region},
            "compute": {
                **{name: getattr(want, field) for field, name in COMPUTE.items()},
                "scaling": _scaling(want),
            },
            "model": {
                "repository": want.model.reference,
                "revision": want.model.version,
                "framework": want.framework,
                "image": _image(want),
                **_environment(want.environment),
                **_given(task=want.task, command=want.command, args=want.args),
            },
            "tags": sorted({*(want.tags or ()), *_marks(want, owner)}),
        }
        if want.private_link is not None:
            link = want.private_link
            body["privateService"] = {"accountId": link.account_id, "region": link.region}
        if route := _given(domain=want.domain, path=want.path):
            body["route"] = route
        body |= _given(cacheHttpResponses=want.cache_http_responses)
        return self._decoded(await self.session.call("POST", self.session.endpoints, json=body))

    async def update(
        self, id: str, want: HuggingFaceEndpointParams, changed: frozenset[str], owner: str
    ) -> None:
        now = await self.session.call("GET", self._path(id))
        parts = {path.partition(".")[0] for path in changed}
        if body := _changes(now, want, changed, owner):
            await self.session.call("PUT", self._path(id), json=body)
        if "paused" in parts:
            await self._pause(id) if want.paused else await self._resume(id)

    async def delete(self, id: str) -> None:
        try:
            await self.session.call("DELETE", self._path(id))
        except NotFound:
            return

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        observed = self._decoded(await self.session.call("GET", self._path(id)))
        if (url := observed.outputs.get("url")) is None:
            raise Unavailable(f"endpoint {id} has no address yet: {observed.message}")
        # The token goes there too: nowhere but where the API itself may be, and over https.
        plain = self.session.connector.endpoint.startswith("http://")
        url = checked(url, allow_insecure=plain)
        body: JSON = {}
        if request.body is not None:
            body = {
                "content": request.body.encode(),
                "headers": {"Content-Type": request.content_type},
            }
        answer = await http.send(
            self.session.door,
            self.session.client,
            "GET" if request.body is None else "POST",
            f"{url}/{request.path.lstrip('/')}" if request.path else url,
            label="InvokeEndpoint",
            # Whatever the model answers says nothing about the API.
            concerns_all=lambda _: None,
            **body,
        )
        told = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        return Answer(answer.status, told)

    async def _pause(self, id: str) -> None:
        await self.session.call("POST", f"{self._path(id)}/pause")

    async def _resume(self, id: str) -> None:
        try:
            await self.session.call("POST", f"{self._path(id)}/resume")
        except Rejected as failure:
            # Said by a 400: someone else was faster.
            if "already running" not in failure.message:
                raise

    def _path(self, id: str) -> str:
        return f"{self.session.endpoints}/{quote(id, safe='')}"

    def _decoded(self, body: Any) -> Observed[HuggingFaceEndpointParams]:
        try:
            return self._observed(body)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise Unavailable("Hugging Face's endpoint is not what its API promises") from error

    def _observed(self, body: JSON) -> Observed[HuggingFaceEndpointParams]:
        status, model, compute = body["status"], body["model"], body["compute"]
        tags, route = list(body.get("tags") or ()), body.get("route") or {}
        engine, image = next(iter((model.get("image") or {DEFAULT: {}}).items()))
        source = ModelSource.told(
            model["repository"], version=model.get("revision"), image=image.get("url")
        )
        source.artifact = None
        container = None
        if engine != DEFAULT:
            told = {name: image.get(alias) for name, alias in IMAGE.items()}
            container = Container.model_construct(engine=engine, **told)
        link = body.get("privateService")
        state, name = status["state"], body["name"]
        return Observed(
            id=name,
            actual=HuggingFaceEndpointParams.seen(
                model=source,
                hardware=compute["instanceType"],
                scaling=_scaling_seen(compute),
                environment=_environment_seen(model.get("env") or {}, tags),
                cloud=body["provider"]["vendor"],
                region=body["provider"]["region"],
                accelerator=compute["accelerator"],
                instance_size=compute["instanceSize"],
                # `protected` is what `authenticated` was called before.
                type="authenticated" if body["type"] == "protected" else body["type"],
                private_link=link
                and PrivateLink.model_construct(
                    account_id=link.get("accountId"), region=link.get("region")
                ),
                framework=model["framework"],
                task=model.get("task"),
                container=container,
                command=model.get("command"),
                args=model.get("args"),
                paused=state == "paused",
                domain=route.get("domain"),
                path=route.get("path"),
                cache_http_responses=bool(body.get("cacheHttpResponses")),
                tags={tag for tag in tags if not tag.startswith((OWNER, HIDDEN))},
            ),
            phase=PHASES.get(state, Phase.PENDING),
            owner=next((tag.removeprefix(OWNER) for tag in tags if tag.startswith(OWNER)), None),
            outputs=_outputs(body, engine),
            url=f"https://endpoints.huggingface.co/{self.session.connector.namespace}/endpoints/{name}",
            message=f"the endpoint is {state}"
            + (f": {status['message']}" if status.get("message") else ""),
            summary={"state": state},
        )


def _changes(
    now: JSON, want: HuggingFaceEndpointParams, changed: frozenset[str], owner: str
) -> JSON:
    """The body of an update: what is not in it stays as it is."""
    parts = {path.partition(".")[0] for path in changed}
    compute: JSON = {
        name: getattr(want, field) for field, name in COMPUTE.items() if field in parts
    }
    scaling, wanted = (
        {SCALING.get(".".join(path.split(".")[:2])) for path in changed},
        _scaling(want),
    )
    if scaled := {name: value for name, value in wanted.items() if name in scaling}:
        compute["scaling"] = scaled
    model: JSON = {}
    if changed & {"model.name", "model.model_ref"}:
        # Without a declared one the revision would stay, and is none of the new model's.
        model |= {"repository": want.model.reference, "revision": want.model.version}
    if "model.version" in changed:
        model["revision"] = want.model.version
    if "model.image" in changed or "container" in parts:
        model["image"] = _image(want)
    if variables := _below("environment", changed):
        model |= _environment_changes(now, want, variables)
    own = {"framework": want.framework, "task": want.task, "command": want.command}
    model |= {name: value for name, value in (own | {"args": want.args}).items() if name in parts}
    route = {name: getattr(want, name) for name in ("domain", "path") if name in parts}
    body: JSON = _given(compute=compute or None, model=model or None, route=route or None)
    if "cache_http_responses" in parts:
        body["cacheHttpResponses"] = want.cache_http_responses
    others = {tag for tag in now.get("tags") or () if not tag.startswith((OWNER, HIDDEN))}
    tags = sorted({*(others if want.tags is None else want.tags), *_marks(want, owner)})
    if tags != sorted(now.get("tags") or ()):
        body["tags"] = tags
    return body


def _ignored(container: Container) -> str | None:
    """What Hugging Face would not refuse but drop."""
    for field, (name, engines) in PARALLEL.items():
        if getattr(container, field) is not None and container.engine not in engines:
            return f"{name} is a setting of the engine {' and '.join(engines)} only"
    return None


def _given(**fields: Any) -> JSON:
    return {name: value for name, value in fields.items() if value is not None}


def _scaling(want: HuggingFaceEndpointParams) -> JSON:
    scaling = want.scaling
    told: JSON = {"minReplica": scaling.min, "maxReplica": scaling.max}
    if scaling.to_zero_after is not None:
        told["scaleToZeroTimeout"] = int(seconds(scaling.to_zero_after) // MINUTE)
    if scaling.target is not None:
        told["measure"] = {MEASURES[scaling.target.metric]: scaling.target.value}
    return told


def _scaling_seen(compute: JSON) -> Scaling:
    scaling = compute["scaling"]
    timeout = scaling.get("scaleToZeroTimeout")
    used = "CPUUtilization" if compute["accelerator"] == "cpu" else "AcceleratorUtilization"
    metrics = {"pendingRequests": "ConcurrentRequests", "hardwareUsage": used}
    told: list[JSON] = [
        {"metric": metrics[name], "value": value}
        for name, value in (scaling.get("measure") or {}).items()
        if name in metrics
    ]
    return Scaling.model_construct(
        min=scaling["minReplica"],
        max=scaling["maxReplica"],
        to_zero_after=None if timeout is None else f"{timeout}m",
        target=ScalingTarget.model_construct(**told[0]) if told else None,
    )


def _image(want: HuggingFaceEndpointParams) -> JSON:
    """The union of images: which one it is, and what is said of that."""
    if want.model.image is None:
        return {DEFAULT: {}}
    run = want.container or Container()
    told = {alias: getattr(run, name) for name, alias in IMAGE.items()}
    image = _given(url=want.model.image, **told)
    if run.registry is not None:
        image["credentials"] = {
            "username": run.registry.username,
            "password": run.registry.password.reveal(),
        }
    return {run.engine or CUSTOM: image}


def _environment(variables: Iterable[EnvironmentVariable]) -> dict[str, JSON]:
    """What is to be read by anyone, and what is not."""
    env: JSON = {}
    secrets: JSON = {}
    for one in variables:
        (secrets if is_secret(one) else env)[one.name] = one.reveal()
    return {"env": env, "secrets": secrets}


def _environment_changes(now: JSON, want: HuggingFaceEndpointParams, names: set[str]) -> JSON:
    """The maps in which something changes: Hugging Face replaces each as a whole."""
    wanted, there = _environment(want.environment), now["model"].get("env") or {}
    body = {}
    if names & {*there, *wanted["env"]}:
        kept = {name: value for name, value in there.items() if name not in names}
        body["env"] = kept | {n: value for n, value in wanted["env"].items() if n in names}
    if names & {*_hidden(now.get("tags") or ()), *wanted["secrets"]}:
        body["secrets"] = wanted["secrets"]
    return body


def _hidden(tags: Iterable[str]) -> list[str]:
    """Names of the secret variables."""
    return [tag.removeprefix(HIDDEN) for tag in tags if tag.startswith(HIDDEN)]


def _below(field: str, changed: frozenset[str]) -> set[str]:
    return {path.removeprefix(f"{field}.") for path in changed if path.startswith(f"{field}.")}


def _environment_seen(env: Mapping[str, str], tags: list[str]) -> list[EnvironmentVariable]:
    # Without a value: whether it is the right one, the fingerprint of the last write tells.
    seen = [EnvironmentVariable.model_construct(name=name) for name in _hidden(tags)]
    for name, value in env.items():
        variable = EnvironmentVariable.model_construct(name=name)
        variable.resolve(value, "")
        seen.append(variable)
    return seen


def _marks(want: HuggingFaceEndpointParams, owner: str) -> set[str]:
    return {f"{OWNER}{owner}", *(f"{HIDDEN}{v.name}" for v in want.environment if is_secret(v))}


def _outputs(body: JSON, engine: str) -> dict[str, str]:
    url, model = body["status"].get("url"), body["model"]["repository"]
    outputs = {"name": body["name"], "model": model}
    if not url:
        return outputs
    url = url.rstrip("/")
    outputs["url"] = url
    call = f"curl -s {url} -H 'Content-Type: application/json'"
    request: JSON = {"inputs": "hello"}
    if engine in OPENAI:
        outputs["openaiBaseUrl"] = f"{url}/v1"
        call = f"curl -s {url}/v1/chat/completions -H 'Content-Type: application/json'"
        request = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    if body["type"] != "public":
        outputs["authentication"] = "Authorization: Bearer <access token of Hugging Face>"
        call += f" -H '{outputs['authentication']}'"
    outputs["curl"] = f"{call} -d '{json.dumps(request)}'"
    return outputs
