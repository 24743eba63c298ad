"""MongoDB's Atlas Administration API (https://www.mongodb.com/docs/atlas/api/)."""

from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

from pydantic import Field, SecretStr

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, Url
from auterity.engine.contract import Access, Identity
from auterity.engine.errors import Busy, Conflict, Failure, Rejected, Unavailable
from auterity.transport import http
from auterity.transport.endpoints import checked
from auterity.transport.oauth import ClientCredentials, Grant, OAuthConnector, OAuthSession
from auterity.transport.rest import RestSession

VERSION: Final = "application/vnd.atlas.2024-05-30+json"
"""Media type of every request and answer: without a version Atlas refuses them."""
_TAKEN: Final = ("EXIST", "DUPLICATE")


class MongodbAtlasConnection(OAuthConnector):
    """A project of MongoDB Atlas, by a service account."""

    vendor = "mongodbAtlas"
    # 100 requests a minute and project.
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=1.5, burst=20, concurrent=4)

    endpoint: Url = "https://cloud.mongodb.com"
    """Base URL of the API; https://cloud.mongodbgov.com for Atlas for Government."""
    project_id: Annotated[str, Field(min_length=24, max_length=24, pattern=r"^[a-f0-9]{24}$")]
    """The project's id, 24 hexadecimal digits; it stands in the address of the project's page."""
    client_id: Annotated[str, Field(min_length=1, max_length=128)]
    """Client id of the service account, such as mdb_sa_id_0123456789abcdef01234567."""
    client_secret: SecretValue
    """A secret of the service account. Atlas lets it expire; the connection then says so."""

    def grant(self) -> Grant:
        secret = SecretStr(self.client_secret.reveal())
        return Grant("/api/oauth/token", self.client_id, secret, in_header=True)

    async def identify(self, session: RestSession) -> Identity:
        project = await session.call("GET", "")
        try:
            return Identity(f"{self.client_id} in the project {project['name']}")
        except (KeyError, TypeError) as error:
            raise Unavailable("the answer is not that of Atlas' API") from error

    def failure(self, answer: http.Answer) -> Failure | None:
        told = plain(answer)
        if answer.status == 404 and told is answer:
            # Atlas tells a code; the 404 of a gateway must not be taken for "is gone".
            return Unavailable("404 came, and not in Atlas' own words; is the endpoint right?")
        if answer.status == 402:
            return Rejected(f"Atlas waits for a payment of the organization{http.reason(told)}")
        if answer.status == 409:
            taken = any(word in str(told.body) for word in _TAKEN)
            return (Conflict if taken else Busy)(f"Atlas refuses it for now{http.reason(told)}")
        return http.failure_of(told)

    async def open(self, access: Access) -> "MongodbAtlasSession":
        endpoint = checked(self.endpoint, allow_insecure=access.allow_insecure)
        client = http.client(endpoint)
        tokens = ClientCredentials(access.door, client, self.grant())
        return MongodbAtlasSession(access.door, client, self, tokens)


class MongodbAtlasSession(OAuthSession):
    """Calls about one project; paths are below it."""

    connector: MongodbAtlasConnection

    async def call(self, method: str, path: str, **request: Any) -> Any:
        headers = {"Accept": VERSION}
        if "json" in request:
            headers["Content-Type"] = VERSION
        below = f"/api/atlas/v2/groups/{self.connector.project_id}{path}"
        return await super().call(method, below, headers=headers, concerns_all=_held, **request)


def path(*parts: str) -> str:
    """A path below the project, of parts that may have any characters."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def plain(answer: http.Answer) -> http.Answer:
    """The answer with Atlas' code and words alone; the same if it is not in Atlas' words."""
    body = answer.body
    if answer.status < 300 or not isinstance(body, dict) or "errorCode" not in body:
        return answer
    words = f"{body['errorCode']}: {body.get('detail') or body.get('reason') or ''}"
    return http.Answer(answer.status, answer.headers, words.removesuffix(": "))


def _held(answer: http.Answer) -> Failure | None:
    return http.held(plain(answer))
