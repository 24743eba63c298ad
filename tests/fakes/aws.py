"""AWS services in memory, for stateful fakes: SigV4 is checked, and all bodies against botocore.

The service models of botocore are AWS's own descriptions. botocore itself checks types and required
members of requests, and nothing of answers; here patterns, enumerations and sizes count too.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.loaders
import botocore.model
from aiohttp import web

from tests.conformance.faults import Spoil
from tests.conformance.vendor import Vendor
from tests.fakes.server import FakeServer

JSON = dict[str, Any]
ACCOUNT = "123456789012"
REGION = "eu-central-1"
SIGNED = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+)")
STS_ANSWER = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>AIDAFAKE</UserId><Account>{account}</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>
</GetCallerIdentityResponse>"""


class Refused(Exception):  # noqa: N818 - as the vendor refuses
    """An error answer of a service."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@cache
def service(name: str) -> botocore.model.ServiceModel:
    """AWS's own description of a service."""
    loaded = botocore.loaders.create_loader().load_service_model(name, "service-2")
    return botocore.model.ServiceModel(loaded, name)


class AwsFake:
    """Services behind one endpoint. A service is an object with a method for each operation."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.keys = keys
        self.violations: list[str] = []
        self.answered: list[str] = []
        """Operations that were asked for, in order."""
        self._services: dict[str, tuple[botocore.model.ServiceModel, Any, str]] = {}
        self._server = FakeServer()
        self._server.route("POST", "/", self._handle)
        self._requests = 0

    def add(self, name: str, fake: object, invalid: str) -> None:
        """Serve a JSON 1.1 service; `invalid` is its error code for what its model refuses."""
        model = service(name)
        self._services[model.metadata["targetPrefix"]] = (model, fake, invalid)

    def add_rest(self, name: str, fake: object, invalid: str) -> None:
        """Serve those operations of a REST JSON service that the fake has a method for."""
        for operation in service(name).operation_names:
            if hasattr(fake, operation):
                self._add_rest(service(name).operation_model(operation), fake, invalid)

    def _add_rest(
        self, described: botocore.model.OperationModel, fake: object, invalid: str
    ) -> None:
        def answer(request: web.Request, raw: bytes) -> JSON | None:
            return self._perform(described, fake, invalid, _given(described, request, raw))

        http = described.http
        self._rest(http["method"], http["requestUri"], answer, http["responseCode"])

    def route(self, path: str, answer: Callable[[web.Request, bytes], JSON]) -> None:
        """Answer POST requests of a REST service at a path; they are signed as all are."""
        self._rest("POST", path, answer)

    def _rest(
        self,
        method: str,
        path: str,
        answer: Callable[[web.Request, bytes], JSON | None],
        status: int = 200,
    ) -> None:
        async def handle(request: web.Request, _: Any) -> web.Response:
            self._requests += 1
            id = f"request-{self._requests}"
            raw = await request.read()
            try:
                self._signed_by(request, raw)
                return self._respond(json.dumps(answer(request, raw) or {}), id, status)
            except Refused as refused:
                told = self._respond(json.dumps({"message": refused.message}), id, refused.status)
                told.headers["x-amzn-errortype"] = refused.code
                return told

        self._server.route(method, path, handle)

    async def start(self) -> str:
        return await self._server.start()

    async def spoiled(self, spoil: Spoil) -> str:
        return await self._server.spoiled(spoil)

    async def stop(self) -> None:
        await self._server.stop()

    async def _handle(self, request: web.Request, body: Any) -> web.Response:
        self._requests += 1
        id = f"request-{self._requests}"
        raw = await request.read()
        try:
            key = self._signed_by(request, raw)
            if "X-Amz-Target" not in request.headers:
                return self._sts(parse_qs(raw.decode()), key, id)
            answer = self._answer(request.headers["X-Amz-Target"], json.loads(raw or b"{}"))
        except Refused as refused:
            content: JSON = {"__type": refused.code, "message": refused.message}
            return self._respond(json.dumps(content), id, refused.status)
        return self._respond("" if answer is None else json.dumps(answer), id)

    def _answer(self, target: str, given: JSON) -> JSON | None:
        prefix, _, operation = target.partition(".")
        model, fake, invalid = self._services[prefix]
        return self._perform(model.operation_model(operation), fake, invalid, given)

    def _perform(
        self, described: botocore.model.OperationModel, fake: Any, invalid: str, given: JSON
    ) -> JSON | None:
        operation = described.name
        problems = list(_problems(described.input_shape, given, ""))
        for kind, problem in problems:
            if kind == "shape":
                self.violations.append(f"{operation}: {problem}")
        if problems:
            count = len(problems)
            told = "; ".join(problem for _, problem in problems)
            errors = "error" if count == 1 else "errors"
            raise Refused(invalid, f"{count} validation {errors} detected: {told}")
        self.answered.append(operation)
        answer: JSON | None = getattr(fake, operation)(**given)
        if described.output_shape is None:
            assert answer is None, operation
            return None
        wrong = [problem for _, problem in _problems(described.output_shape, answer or {}, "")]
        if wrong:
            # The fake itself is not what AWS would be.
            self.violations.append(f"answer of {operation}: {wrong}")
        return answer or {}

    def _signed_by(self, request: web.Request, raw: bytes) -> str:
        header = request.headers.get("Authorization")
        if header is None:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        found = SIGNED.search(header)
        assert found, header
        key, region, name, headers = found.groups()
        if key not in self.keys:
            raise Refused(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        signed = botocore.awsrequest.AWSRequest(
            method=request.method,
            url=f"http://{request.headers['Host']}{request.raw_path}",
            headers={name: request.headers[name] for name in headers.split(";")},
            data=raw,
        )
        signed.context["timestamp"] = request.headers["X-Amz-Date"]
        credentials = botocore.credentials.Credentials(key, self.keys[key])
        auth = botocore.auth.SigV4Auth(credentials, name, region)
        to_sign = auth.string_to_sign(signed, auth.canonical_request(signed))
        if not header.endswith(f"Signature={auth.signature(to_sign, signed)}"):
            raise Refused(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
            )
        return key

    def _sts(self, form: dict[str, list[str]], key: str, id: str) -> web.Response:
        assert form["Action"] == ["GetCallerIdentity"], form
        self.answered.append("GetCallerIdentity")
        arn = escape(f"arn:aws:iam::{ACCOUNT}:user/{key.lower()}")
        text = STS_ANSWER.format(arn=arn, account=ACCOUNT, id=id)
        return web.Response(text=text, content_type="text/xml")

    @staticmethod
    def _respond(text: str, id: str, status: int = 200) -> web.Response:
        headers = {"x-amzn-RequestId": id, "Content-Type": "application/x-amz-json-1.1"}
        return web.Response(body=text.encode(), status=status, headers=headers)


class AwsVendor(Vendor):
    """What stands behind AWS's endpoint: `aws`, which knows one access key."""

    key: ClassVar[str]
    """The access key's id; `secrets` has the secret one."""
    aws: AwsFake
    account: Any = None
    """What keeps the state, where that takes its time: while its `slow` is set."""

    @abstractmethod
    def serve(self) -> None:
        """Add the services to `aws`."""

    async def start(self) -> None:
        self.aws = AwsFake({self.key: self.secrets["aws"]["secretAccessKey"]})
        self.serve()
        self.url = await self.aws.start()

    async def spoiled(self, spoil: Spoil) -> str | None:
        return await self.aws.spoiled(spoil)

    async def stop(self) -> None:
        await self.aws.stop()

    @property
    def slow(self) -> bool:
        return self.account is not None and self.account.slow

    @slow.setter
    def slow(self, value: bool) -> None:
        if self.account is not None:
            self.account.slow = value

    @property
    def violations(self) -> list[str]:
        return self.aws.violations

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "region": REGION,
            "accessKeyId": self.key,
            "secretAccessKey": {"secretKeyRef": {"name": "aws", "key": "secretAccessKey"}},
            "endpoint": endpoint,
        }


def _given(described: botocore.model.OperationModel, request: web.Request, raw: bytes) -> JSON:
    """The members of a REST request, wherever its description puts them."""
    given: JSON = json.loads(raw) if raw else {}
    for name, shape in described.input_shape.members.items():
        where, called = shape.serialization.get("location"), shape.serialization.get("name", name)
        found = {"uri": request.match_info, "querystring": request.query}.get(where, {})
        if called in found:
            value = found[called]
            given[name] = int(value) if shape.type_name in ("integer", "long") else value
    return given


Problem = tuple[str, str]


def _problems(shape: botocore.model.Shape, value: Any, path: str):
    """What a value breaks: `shape` for what botocore would refuse, `value` for AWS alone."""
    checks: dict[str, Callable[..., Any]] = {
        "structure": _structure,
        "list": _list,
        "map": _map,
        "string": _string,
        "integer": _number,
        "long": _number,
        "float": _number,
        "double": _number,
    }
    types: dict[str, type | tuple[type, ...]] = {
        "structure": dict,
        "list": list,
        "map": dict,
        "string": str,
        "boolean": bool,
        "integer": int,
        "long": int,
        "float": (int, float),
        "double": (int, float),
        "timestamp": (int, float),
    }
    if shape.serialization.get("timestampFormat") == "iso8601":
        types["timestamp"] = str
    if not isinstance(value, types[shape.type_name]):
        yield "shape", f"Value at '{path}' is no {shape.type_name}"
    elif check := checks.get(shape.type_name):
        yield from check(shape, value, path)


def _structure(shape: botocore.model.StructureShape, value: JSON, path: str):
    for name in shape.required_members:
        if name not in value:
            yield "shape", f"Value null at '{_below(path, name)}' failed to satisfy constraint: "
    for name, item in value.items():
        if name not in shape.members:
            yield "shape", f"Unknown member '{_below(path, name)}'"
        else:
            yield from _problems(shape.members[name], item, _below(path, name))


def _list(shape: botocore.model.ListShape, value: list[Any], path: str):
    yield from _size(shape, len(value), path, value)
    for index, item in enumerate(value):
        yield from _problems(shape.member, item, f"{path}.{index + 1}.member")


def _map(shape: botocore.model.MapShape, value: JSON, path: str):
    yield from _size(shape, len(value), path, value)
    for key, item in value.items():
        yield from _problems(shape.key, key, f"{path}.key")
        yield from _problems(shape.value, item, f"{path}.{key}")


def _string(shape: botocore.model.StringShape, value: str, path: str):
    yield from _size(shape, len(value), path, value)
    pattern = shape.metadata.get("pattern")
    if pattern and not _pattern(pattern).fullmatch(value):
        yield "value", _constraint(value, path, f"satisfy regular expression pattern: {pattern}")
    if shape.enum and value not in shape.enum:
        yield "value", _constraint(value, path, f"satisfy enum value set: {shape.enum}")


def _number(shape: botocore.model.Shape, value: float, path: str):
    yield from _size(shape, value, path, value)


def _size(shape: botocore.model.Shape, size: float, path: str, value: Any):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield "value", _constraint(value, path, f"be greater than or equal to {low}")
    if high is not None and size > high:
        yield "value", _constraint(value, path, f"be less than or equal to {high}")


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    # The models are written for Java: beyond the basic plane in halves, and with \p{L}, which
    # Python does not know. All that AWS writes so is no blank, and \p{Z} is one.
    whole = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010ffff")
    return re.compile(re.sub(r"\\p\{\w+\}", r"\\S", whole.replace(r"\p{Z}", r"\s")))


def _constraint(value: Any, path: str, must: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {must}"


def _below(path: str, name: str) -> str:
    lowered = name[:1].lower() + name[1:]
    return f"{path}.{lowered}" if path else lowered
