"""AWS, by boto3 (https://docs.aws.amazon.com/boto3): one session a connection, calls in threads."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field

from auterity import __version__
from auterity.api import GROUP
from auterity.api.connection import RateLimit
from auterity.api.fields import Model, Rule, SecretValue, Url
from auterity.engine.calls import Call, Door, fence
from auterity.engine.contract import Access, Connector, Identity, Session
from auterity.engine.errors import (
    Busy,
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.redaction import hide
from auterity.transport import http
from auterity.transport.endpoints import checked, refuse_resolved

if TYPE_CHECKING:
    import boto3
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError
    from botocore.loaders import Loader

JSON = dict[str, Any]

OWNER_TAG: Final = f"{GROUP}/owner"
"""The tag that carries the owner's mark."""
THREADS: Final = 16
LONGEST_TEXT: Final = 400
LONGEST_BODY: Final = 64 << 10
"""Of what a model answers; what is longer tells a probe nothing more."""
CONNECT_TIMEOUT: Final = 5
READ_TIMEOUT: Final = 20
READS: Final = ("Describe", "List", "Get", "Head")

_making = Lock()
"""boto3's sessions and its loader are not made for several threads at once; its clients are."""


class AssumeRole(Model):
    """A role to work as, such as one in another account."""

    role_arn: Annotated[str, Field(min_length=20, max_length=2048, pattern=r"^arn:[^\s]+$")]
    """ARN of the role. Its trust policy must allow the identity that the connection has without
    it; with several teams on one operator, let it ask for an externalId or for the session's
    name."""
    external_id: Annotated[str, Field(min_length=2, max_length=1224)] | None = None
    """External id that the role's trust policy asks for."""
    session_name: (
        Annotated[str, Field(min_length=2, max_length=64, pattern=r"^[\w+=,.@-]+$")] | None
    ) = None
    """Name of the session, seen in CloudTrail; `auterity-` and the connection's namespace if left
    out."""


class AwsConnection(Connector):
    """An AWS account and region, by an access key or by the operator's own role."""

    vendor: ClassVar[str] = "aws"
    # The narrowest of the services behind it: Cognito allows five calls a second for each
    # operation on a user pool, and SageMaker a handful of changes.
    # https://docs.aws.amazon.com/cognito/latest/developerguide/quotas.html
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=5, burst=10, concurrent=8)

    rules = (
        Rule(
            "has(self.accessKeyId) == has(self.secretAccessKey)",
            "accessKeyId and secretAccessKey go together",
        ),
        Rule(
            "!has(self.sessionToken) || has(self.accessKeyId)",
            "sessionToken needs accessKeyId and secretAccessKey",
        ),
    )

    region: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z0-9-]+$")]
    """Region that everything of this connection is in, such as eu-central-1."""
    access_key_id: Annotated[str, Field(min_length=16, max_length=128, pattern=r"^\w+$")] | None = (
        None
    )
    """Access key id. Without it, the identity of the operator's pod is used: an IAM role for its
    service account (IRSA), EKS Pod Identity, or what its environment says; never the node's."""
    secret_access_key: SecretValue | None = None
    """Secret access key."""
    session_token: SecretValue | None = None
    """Session token, if the access key is a temporary one. Such a key is not renewed."""
    assume_role: AssumeRole | None = None
    """Work as this role; its credentials are renewed before they expire."""
    endpoint: Url | None = None
    """Endpoint used for all services instead of AWS's own, such as an emulator or a VPC
    endpoint."""

    @property
    def billing_region(self) -> str | None:
        return self.region

    async def open(self, access: Access) -> "AwsSession":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise Rejected("accessKeyId and secretAccessKey go together")
        if self.session_token is not None and self.access_key_id is None:
            raise Rejected("sessionToken needs accessKeyId and secretAccessKey")
        if self.access_key_id is None and not access.lends_identity:
            raise Rejected(
                "there is no access key, and the operator lends its own AWS identity only to "
                "ClusterConnections (or to all with --lend-identity)"
            )
        endpoint = self.endpoint and checked(self.endpoint, allow_insecure=access.allow_insecure)
        return AwsSession(access.door, self, endpoint, access.namespace)


class AwsSession(Session):
    """Calls to the services of one account and region."""

    def __init__(
        self, door: Door, connector: AwsConnection, endpoint: str | None, namespace: str
    ) -> None:
        self.door, self.region = door, connector.region
        self._connector, self._endpoint, self._namespace = connector, endpoint, namespace
        self._threads = ThreadPoolExecutor(THREADS, "aws")
        self._session: boto3.session.Session | None = None
        self._clients: dict[str, BaseClient] = {}

    async def call(self, service: str, operation: str, **parameters: Any) -> JSON:
        """One operation of a service, both as boto3 and the API reference name them.

        Returns the answer's members. Raises the failure that AWS's answer means.
        """
        async with self.door.call(operation) as call:
            if self._endpoint is not None:
                await refuse_resolved(urlsplit(self._endpoint).hostname or "")
            return await asyncio.get_running_loop().run_in_executor(
                self._threads,
                copy_context().run,
                self._ask,
                call,
                service,
                operation,
                parameters,
            )

    async def pages(self, service: str, operation: str, items: str, **parameters: Any) -> list[Any]:
        """All items of an operation that answers in pages linked by NextToken, or nextToken."""
        found: list[Any] = []
        while True:
            answer = await self.call(service, operation, **parameters)
            found += answer.get(items, ())
            further = {k: v for k, v in answer.items() if k in ("NextToken", "nextToken") and v}
            if not further:
                return found
            parameters |= further

    async def verify(self) -> Identity:
        # Nothing is told of an expiry: a role's credentials are renewed here, and AWS does not
        # say when a session token that was given to us ends.
        return Identity((await self.call("sts", "GetCallerIdentity"))["Arn"])

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def _ask(self, call: Call, service: str, operation: str, parameters: JSON) -> JSON:
        """In a thread: making a client takes a second, and a call as long as AWS takes."""
        try:
            from botocore import xform_name
            from botocore.exceptions import (
                BotoCoreError,
                ClientError,
                ConnectionClosedError,
            )
            from botocore.parsers import ResponseParserError
        except ImportError as error:
            raise Rejected("the AWS SDK is missing: install auterity[aws]") from error
        try:
            ask: Callable[..., JSON] = getattr(self._client(service), xform_name(operation))
            try:
                answer = ask(**parameters)
            except ConnectionClosedError:
                # The one retry there is: a read whose kept-alive connection was closed.
                if not operation.startswith(READS):
                    raise
                answer = ask(**parameters)
        except ClientError as error:
            _note(call, error.response)
            call.status = error.response.get("Error", {}).get("Code") or call.status
            raise refusal(error, service, operation) from error
        except ResponseParserError as error:
            raise _unreadable(service) from error
        except (BotoCoreError, OSError) as error:
            raise self._mishap(error, service, operation) from error
        _note(call, answer)
        return {name: _read(value) for name, value in answer.items()}

    def _client(self, service: str) -> "BaseClient":
        with _making:
            if service not in self._clients:
                if self._session is None:
                    self._session = self._as_role(self._base())
                self._clients[service] = self._make(self._session, service)
            return self._clients[service]

    def _make(self, session: "boto3.session.Session", service: str) -> "BaseClient":
        from botocore.config import Config

        client: BaseClient = session.client(
            service,
            region_name=self.region,
            endpoint_url=self._endpoint,
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"},
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
                max_pool_connections=THREADS,
                user_agent_extra=f"auterity/{__version__}",
            ),
        )
        client.meta.events.register("before-send", lambda **_: fence())
        client.meta.events.register("before-parse", _refuse_other_than_data)
        return client

    def _base(self) -> "boto3.session.Session":
        """With the key that was given, else as the operator's pod."""
        secret, token = self._connector.secret_access_key, self._connector.session_token
        if secret is None:
            core = _core()
            # A Connection must not be a way to the node's own identity.
            core.get_component("credential_provider").remove("iam-role")
            return _boto3(core)
        return _boto3(
            _core(),
            aws_access_key_id=self._connector.access_key_id,
            aws_secret_access_key=secret.reveal(),
            aws_session_token=token.reveal() if token else None,
        )

    def _as_role(self, base: "boto3.session.Session") -> "boto3.session.Session":
        role = self._connector.assume_role
        if role is None:
            return base
        from botocore import credentials

        parameters = {
            "RoleArn": role.role_arn,
            "RoleSessionName": role.session_name or f"auterity-{self._namespace}"[:64],
        }
        if role.external_id is not None:
            parameters["ExternalId"] = role.external_id
        self._clients["sts of the base"] = sts = self._make(base, "sts")
        core = _core()
        # Renewed inside the call that finds them about to expire, in that call's thread.
        core.register_component(
            "credential_provider",
            _Fixed(
                credentials.DeferredRefreshableCredentials(
                    credentials.create_assume_role_refresher(sts, parameters), "assume-role"
                )
            ),
        )
        return _boto3(core)

    def _mishap(self, error: Exception, service: str, operation: str) -> Failure:
        """What an error means that is none of AWS's answers."""
        from botocore import exceptions

        host = urlsplit(self._endpoint or "").hostname or f"AWS ({service} in {self.region})"
        match error:
            case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
                return Unauthorized(
                    "there are no AWS credentials: give the connection an access key, or the "
                    "operator's service account an IAM role"
                )
            case exceptions.CredentialRetrievalError():
                return Unauthorized(f"no AWS credentials could be had: {_text(str(error))}")
            case exceptions.ParamValidationError():
                return Rejected(f"{service} {operation} does not take it: {_text(str(error))}")
            case exceptions.ReadTimeoutError() | exceptions.ConnectTimeoutError():
                return Unavailable(f"{host} did not answer in time")
            case exceptions.UnknownServiceError() | exceptions.InvalidRegionError():
                return Rejected(_text(str(error)))
            case _:
                return Unavailable(f"{host} cannot be reached ({type(error).__name__})")


def _read(value: Any) -> Any:
    """A body that comes as a stream, read here, where waiting for it blocks nobody."""
    return value.read(LONGEST_BODY) if hasattr(value, "read") else value


class _Fixed:
    """Stands where botocore looks for credentials."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


@cache
def _loader() -> "Loader":
    """The process's one loader of service models: each costs some 15 MB once parsed.

    https://github.com/boto/botocore/issues/3078
    """
    from botocore.loaders import create_loader

    return create_loader()


def _core() -> Any:
    from botocore.session import get_session

    # At DEBUG it tells whole requests, secrets included.
    logging.getLogger("botocore").setLevel(logging.INFO)
    core = get_session()
    core.register_component("data_loader", _loader())
    return core


def _boto3(core: Any, **credentials: str | None) -> "boto3.session.Session":
    import boto3

    session = boto3.session.Session(botocore_session=core, **credentials)
    # Every session adds its folder of resources to the loader, which all of them share.
    loader = _loader()
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)
    return session


def _refuse_other_than_data(
    response_dict: Mapping[str, Any], operation_model: Any, **_: Any
) -> None:
    """Before botocore reads an answer: of what is not the data it expects it makes no data.

    A web page or half an answer would look like an empty list.
    """
    body, status = response_dict["body"], response_dict["status_code"]
    if status >= 300 or not isinstance(body, bytes) or not body:
        return
    service = operation_model.service_model
    is_json = "json" in response_dict["headers"].get("content-type", "json")
    if is_json and service.resolved_protocol in {"json", "rest-json"}:
        try:
            json.loads(body)
        except ValueError:
            raise _unreadable(service.service_name) from None
        return
    if body.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise _unreadable(service.service_name)


def _unreadable(service: str) -> Unavailable:
    return Unavailable(
        f"what came back is not an answer of AWS's {service}; is the connection's endpoint right?"
    )


def _note(call: Call, answer: JSON) -> None:
    metadata = answer.get("ResponseMetadata", {})
    call.status = str(metadata.get("HTTPStatusCode") or "")
    call.request_id = metadata.get("RequestId")


_THROTTLED: Final = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled"),
        *("RequestThrottledException", "TooManyRequestsException", "RequestLimitExceeded"),
        *("ProvisionedThroughputExceededException", "BandwidthLimitExceeded", "SlowDown"),
        *("TransactionInProgressException", "EC2ThrottledException"),
    }
)
_UNKNOWN_KEY: Final = frozenset(
    {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"}
)
_BAD_SIGNATURE: Final = frozenset(
    {
        *("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"),
        *("RequestExpired", "RequestTimeTooSkewed"),
    }
)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
_DENIED: Final = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "NotAuthorizedException", "OptInRequired"),
        *("SubscriptionRequiredException", "MissingAuthenticationToken"),
        *("MissingAuthenticationTokenException", "UnauthorizedOperation", "NotAuthorized"),
        "FailedResourceAccessException",
    }
)
_BUSY: Final = frozenset(
    {
        *("ConcurrentModificationException", "ConcurrentUpdateException", "OperationAborted"),
        # Of Bedrock, with status 429: a model that is still being loaded, not too many calls.
        *("PriorRequestNotComplete", "ModelNotReadyException"),
    }
)
_DOWN: Final = frozenset(
    {
        *("InternalFailure", "InternalServerException", "InternalServerError", "InternalError"),
        *("InternalErrorException", "InternalServiceException", "ServiceException"),
        *("ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout"),
        "RequestTimeoutException",
    }
)
_QUOTA: Final = re.compile(r"LimitExceeded|QuotaExceeded")
_ABSENT: Final = re.compile(r"NotFound|^NoSuch")
_TAKEN: Final = re.compile(r"Exists|^Duplicate|^Conflict|ResourceConflict|InUse")
_BY_TEXT: Final[tuple[tuple[re.Pattern[str], type[Failure]], ...]] = (
    # SageMaker has one code, ValidationException, for nearly everything, and Bedrock for much.
    (
        re.compile(
            r"could not find|requested resource not found|ModelPackage \S+ does not exist",
            re.IGNORECASE,
        ),
        NotFound,
    ),
    (re.compile(r"already (exist|associated)|name is currently in use", re.IGNORECASE), Conflict),
    # The latter of a training job: it has ended, or begun to, since it was looked at.
    (re.compile(r"in-progress|is in status", re.IGNORECASE), Busy),
    # Cognito's InvalidParameterException on deleting a pool whose domain is still going away.
    (re.compile(r"has a domain configured", re.IGNORECASE), Busy),
)
"""What the text of a general refusal means."""
_GENERAL: Final = frozenset({"ValidationException", "ValidationError", "InvalidParameterException"})


def refusal(error: "ClientError", service: str, operation: str) -> Failure:  # noqa: PLR0911 - one a class
    """What AWS's answer means.

    https://docs.aws.amazon.com/general/latest/gr/api-error-codes.html and, where those are
    silent, the texts seen.
    """
    told, metadata = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    code, text = str(told.get("Code") or ""), _text(str(told.get("Message") or ""))
    status = int(metadata.get("HTTPStatusCode") or 0)
    what = f"{service} {operation}"
    said = f": {text}" if text else ""
    if code in _THROTTLED or (status == 429 and code not in _BUSY):
        answer = http.Answer(status, metadata.get("HTTPHeaders", {}), None)
        return Throttled(f"AWS asks for fewer calls of {what}", http.retry_after(answer))
    if code in _UNKNOWN_KEY:
        return Unauthorized("AWS does not know the connection's access key, or it is inactive")
    if code in _BAD_SIGNATURE:
        return Unauthorized(
            "AWS refuses the signature: the connection's secret access key is wrong, or the clock "
            "of the operator's node is"
        )
    if code in _EXPIRED:
        return Unauthorized("the connection's session token has expired")
    if code in _DENIED or status in (401, 403):
        return Unauthorized(f"the credentials may not do {what}{said}")
    if code in _DOWN or status >= 500:
        return Unavailable(f"{what} failed at AWS{said}")
    if code.isdigit():
        # botocore has no more than the status where the body was not AWS's.
        return _unreadable(service)
    return _refused(code, f"{what} was refused{said}" if said else f"{what}: {code}", text)


def _refused(code: str, message: str, text: str) -> Failure:
    if _QUOTA.search(code):
        return Rejected(f"a quota of the AWS account is used up; ask AWS to raise it. {message}")
    if code in _BUSY:
        return Busy(message)
    if code in _GENERAL:
        found = (kind for pattern, kind in _BY_TEXT if pattern.search(text))
        return next(found, Rejected)(message)
    if _ABSENT.search(code):
        return NotFound(message)
    return (Conflict if _TAKEN.search(code) else Rejected)(message)


def _text(told: str) -> str:
    """What AWS says, fit to be shown: it may repeat what it was sent."""
    text = " ".join(hide(told).split())
    return "" if text.startswith("<") else text[:LONGEST_TEXT]
