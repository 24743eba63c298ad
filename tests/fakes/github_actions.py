"""GitHub's REST API of 2022-11-28 for one organization's repositories, checked 2026-11-24.

Every request is held against GitHub's own description. Secrets arrive in sealed boxes, which are
opened with the key pairs that the fake hands out. Lists come in pages, answers carry ETags, every
write moves `updated_at`, and a workflow exists as soon as its file is on the default branch.
"""

import hashlib
import json
import sys
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web
from nacl.encoding import Base64Encoder
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from auterity.providers.github_actions.ledger import Ledger, note_of, parsed
from auterity.providers.github_actions.provider import GitHubActions
from tests.conformance.vendor import Edit, Refusal
from tests.contract.openapi import Description, specs_missing
from tests.fakes.server import FakeServer, ServedVendor

JSON = dict[str, Any]
TOKEN = "github_pat_11FAKE0right7Qx2mVb9Lk"
WRONG_TOKEN = "github_pat_11FAKE0wrong4Zt8sPc"
EXPIRES = "2027-03-01 12:00:00 UTC"
INSTALLATION, APP_TOKEN = 4711, "ghs_fakeFAKEinstallation9Rw3"
USERS = {"octavia": 101, "linus-r": 102}
TEAMS = {"release-crew": 201}
REPOSITORIES = ("acme/shop", "acme/other")
CI = ".github/workflows/deploy.yml"
CONTENT = "on:\n  workflow_dispatch:\njobs: {}\n"


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer."""

    def __init__(self, status: int, message: str, errors: list[Any] | None = None, **headers: str):
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body: JSON = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        if errors:
            self.body["errors"] = errors


class Clock:
    """Time at GitHub: every write happens a second after the last."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC)

    def tick(self) -> str:
        self.now += timedelta(seconds=1)
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")


class Entries:
    """Secrets and variables of a repository or an environment, with its key pair."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.key = PrivateKey.generate()
        self.key_id = str(int.from_bytes(bytes(self.key.public_key)[:6], "big"))
        self.secrets: dict[str, JSON] = {}
        self.variables: dict[str, JSON] = {}

    def put_secret(self, name: str, value: str) -> bool:
        """Whether it is a new one."""
        name, now = name.upper(), self.clock.tick()
        created = name not in self.secrets
        old = self.secrets.get(name, {"name": name, "created_at": now})
        self.secrets[name] = {**old, "updated_at": now, "opened": value}
        return created

    def put_variable(self, name: str, value: str) -> None:
        name, now = name.upper(), self.clock.tick()
        old = self.variables.get(name, {"name": name, "created_at": now})
        self.variables[name] = {**old, "value": value, "updated_at": now}

    def told(self) -> JSON:
        return {"secrets": self.secrets, "variables": self.variables}


class Repository:
    """One repository."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name, self.clock = name, clock
        self.entries = Entries(clock)
        self.environments: dict[str, JSON] = {}
        self.files: dict[tuple[str, str], bytes] = {("main", "README.md"): b"# shop\n"}
        self.disabled: set[str] = set()
        self.runs: list[JSON] = []
        self.numbers = 1000
        self.branches = {"main", "release"}
        self.protects = True
        """Whether the plan has protection rules for this repository."""

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def put_environment(self, name: str, body: JSON) -> JSON:
        rules = {"wait_timer", "reviewers", "prevent_self_review"} & set(body)
        if rules and not self.protects:
            raise Refused(
                422,
                "Validation Failed",
                ["Please ensure the billing plan supports the required protection rule."],
            )
        policy = body.get("deployment_branch_policy")
        if policy and policy["protected_branches"] == policy["custom_branch_policies"]:
            raise Refused(422, "protected_branches and custom_branch_policies must differ")
        reviewers = body.get("reviewers") or []
        known = {("User", id) for id in USERS.values()} | {("Team", id) for id in TEAMS.values()}
        if len(reviewers) > 6 or not {(r["type"], r["id"]) for r in reviewers} <= known:
            raise Refused(422, "Validation Failed", ["reviewers are not valid"])
        old = self.environments.get(name.lower())
        place = old or {"name": name, "entries": Entries(self.clock), "patterns": {}}
        place["protection"] = {**body, "reviewers": reviewers}
        if not (policy and policy["custom_branch_policies"]):
            place["patterns"] = {}
        self.environments[name.lower()] = place
        return place

    def told_environment(self, place: JSON) -> JSON:
        body = place["protection"]
        rules: list[JSON] = []
        if body.get("wait_timer"):
            rules.append(
                {"id": 1, "node_id": "a", "type": "wait_timer", "wait_timer": body["wait_timer"]}
            )
        if body["reviewers"]:
            logins = {id: login for login, id in USERS.items()}
            slugs = {id: slug for slug, id in TEAMS.items()}
            told = [
                {"type": "User", "reviewer": {"id": r["id"], "login": logins[r["id"]].title()}}
                if r["type"] == "User"
                else {"type": "Team", "reviewer": {"id": r["id"], "slug": slugs[r["id"]]}}
                for r in reversed(body["reviewers"])
            ]
            rules.append(
                {
                    "id": 2,
                    "node_id": "b",
                    "type": "required_reviewers",
                    "prevent_self_review": body.get("prevent_self_review", False),
                    "reviewers": told,
                }
            )
        policy = body.get("deployment_branch_policy")
        if policy:
            rules.append({"id": 3, "node_id": "c", "type": "branch_policy"})
        return {
            "name": place["name"],
            "protection_rules": rules,
            "deployment_branch_policy": policy,
            "can_admins_bypass": True,
        }

    def workflows(self) -> list[JSON]:
        paths = [p for b, p in self.files if b == "main" and p.startswith(".github/workflows/")]
        return [
            {
                "id": int(hashlib.sha1(path.encode()).hexdigest()[:6], 16),
                "path": path,
                "state": "disabled_manually" if path in self.disabled else "active",
            }
            for path in sorted(paths)
        ]

    def count(self) -> int:
        """Everything that could be left behind."""
        places = self.environments.values()
        nested = sum(
            len(p["entries"].secrets) + len(p["entries"].variables) + len(p["patterns"])
            for p in places
        )
        own = len(self.entries.secrets) + len(self.entries.variables)
        return own + len(self.environments) + nested + len(self.files)

    def told(self) -> str:
        places = {
            p["name"]: {
                **p["entries"].told(),
                "protection": p["protection"],
                "patterns": p["patterns"],
            }
            for p in self.environments.values()
        }
        files = {f"{branch}:{path}": raw.decode() for (branch, path), raw in self.files.items()}
        everything = [self.entries.told(), places, files, self.runs]
        return json.dumps(everything, sort_keys=True)


class GitHub:
    """The API."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.repositories: dict[str, Repository] = {}
        self.limited: list[Refused] = []
        """Answers to the next requests, whatever they ask: primary and secondary limits."""
        self.denied: dict[str, str] = {}
        """Permissions that the token lacks, by a word in the path."""
        self.server = FakeServer(Description.load("github.openapi.json"))
        self.server.authorize = self._authorize
        repository, place = "/repos/{owner}/{repo}", "/repos/{owner}/{repo}/environments/{env}"
        for scope in (f"{repository}/actions", place):
            self._route("GET", f"{scope}/secrets/public-key", self._public_key)
            self._route("GET", f"{scope}/secrets", self._list_secrets)
            self._route("PUT", f"{scope}/secrets/{{name}}", self._put_secret)
            self._route("DELETE", f"{scope}/secrets/{{name}}", self._delete_secret)
            self._route("GET", f"{scope}/variables", self._list_variables)
            self._route("POST", f"{scope}/variables", self._post_variable)
            self._route("PATCH", f"{scope}/variables/{{name}}", self._patch_variable)
            self._route("DELETE", f"{scope}/variables/{{name}}", self._delete_variable)
        self._route("GET", f"{repository}/environments", self._list_environments)
        self._route("PUT", place, self._put_environment)
        self._route("DELETE", place, self._delete_environment)
        policies = f"{place}/deployment-branch-policies"
        self._route("GET", policies, self._list_patterns)
        self._route("POST", policies, self._post_pattern)
        self._route("DELETE", f"{policies}/{{id}}", self._delete_pattern)
        file = f"{repository}/contents/{{path:.+}}"
        self._route("GET", file, self._read_file)
        self._route("PUT", file, self._put_file)
        self._route("DELETE", file, self._delete_file)
        workflows = f"{repository}/actions/workflows"
        self._route("GET", workflows, self._list_workflows)
        self._route("PUT", f"{workflows}/{{file}}/enable", self._enable)
        self._route("PUT", f"{workflows}/{{file}}/disable", self._enable)
        self._route("POST", f"{workflows}/{{file}}/dispatches", self._dispatch)
        self._route("GET", f"{workflows}/{{file}}/runs", self._list_runs)
        self._route("GET", f"{repository}/actions/runs/{{run}}", self._read_run)
        self._route("GET", "/user", self._user)
        self._route("GET", "/users/{login}", self._read_user)
        self._route("GET", "/orgs/{org}/teams/{slug}", self._read_team)
        self._route("GET", "/app/installations/{id}", self._installation)
        self._route("POST", "/app/installations/{id}/access_tokens", self._token)
        self.reset()

    def reset(self) -> None:
        self.repositories = {name: Repository(name, self.clock) for name in REPOSITORIES}
        self.limited, self.denied = [], {}

    def _route(self, method: str, path: str, handler: Any) -> None:
        async def handle(request: web.Request, body: Any) -> web.StreamResponse:
            try:
                self._check_permission(request)
                status, answer, *headers = handler(request, body)
            except Refused as refused:
                return web.json_response(
                    refused.body, status=refused.status, headers=refused.headers
                )
            return _response(request, status, answer, *headers)

        self.server.route(method, path, handle)

    def _check_permission(self, request: web.Request) -> None:
        for word, permission in self.denied.items():
            if word in request.path and request.method != "GET":
                refused = Refused(403, "Resource not accessible by personal access token")
                refused.headers["X-Accepted-GitHub-Permissions"] = permission
                raise refused

    def _authorize(self, request: web.Request) -> web.Response | None:
        if self.limited:
            refused = self.limited.pop(0)
            return web.json_response(refused.body, status=refused.status, headers=refused.headers)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        as_app = request.path.startswith("/app/")
        known = scheme == "Bearer" if as_app else token in (TOKEN, APP_TOKEN)
        if not known:
            return web.json_response({"message": "Bad credentials"}, status=401)
        if request.headers.get("X-GitHub-Api-Version") != "2022-11-28":
            return web.json_response({"message": "unknown version"}, status=400)
        return None

    def _repository(self, request: web.Request) -> Repository:
        name = f"{request.match_info['owner']}/{request.match_info['repo']}"
        if name not in self.repositories:
            raise Refused(404, "Not Found")
        return self.repositories[name]

    def _place(self, request: web.Request) -> JSON:
        place = self._repository(request).environments.get(request.match_info["env"].lower())
        if place is None:
            raise Refused(404, "Not Found")
        return place

    def _entries(self, request: web.Request) -> Entries:
        if "env" in request.match_info:
            entries: Entries = self._place(request)["entries"]
            return entries
        return self._repository(request).entries

    def _public_key(self, request: web.Request, _: Any) -> Any:
        entries = self._entries(request)
        key = entries.key.public_key.encode(Base64Encoder).decode()
        return 200, {"key_id": entries.key_id, "key": key}

    def _list_secrets(self, request: web.Request, _: Any) -> Any:
        secrets = [
            {k: v for k, v in secret.items() if k != "opened"}
            for _, secret in sorted(self._entries(request).secrets.items())
        ]
        return _page(request, "secrets", secrets)

    def _put_secret(self, request: web.Request, body: JSON) -> Any:
        entries, name = self._entries(request), request.match_info["name"]
        _check_name("Secret", name)
        if body["key_id"] != entries.key_id:
            raise Refused(422, "Bad request - key_id is not the current public key")
        try:
            value = SealedBox(entries.key).decrypt(b64decode(body["encrypted_value"])).decode()
        except (CryptoError, ValueError) as error:
            raise Refused(422, "Bad request - could not decrypt secret value") from error
        if name.upper() not in entries.secrets and len(entries.secrets) >= 100:
            raise Refused(422, "Maximum number of secrets reached")
        created = entries.put_secret(name, value)
        return (201, {}) if created else (204, None)

    def _delete_secret(self, request: web.Request, _: Any) -> Any:
        if self._entries(request).secrets.pop(request.match_info["name"].upper(), None) is None:
            raise Refused(404, "Not Found")
        return 204, None

    def _list_variables(self, request: web.Request, _: Any) -> Any:
        variables = [v for _, v in sorted(self._entries(request).variables.items())]
        return _page(request, "variables", variables, most=30)

    def _post_variable(self, request: web.Request, body: JSON) -> Any:
        entries, name = self._entries(request), body["name"]
        _check_name("Variable", name)
        if name.upper() in entries.variables:
            raise Refused(409, "Already exists - Variable already exists")
        if len(body["value"].encode()) > 49152:
            raise Refused(422, "Variable value is too large")
        entries.put_variable(name, body["value"])
        return 201, {}

    def _patch_variable(self, request: web.Request, body: JSON) -> Any:
        entries, name = self._entries(request), request.match_info["name"].upper()
        if name not in entries.variables:
            raise Refused(404, "Not Found")
        entries.put_variable(name, body["value"])
        return 204, None

    def _delete_variable(self, request: web.Request, _: Any) -> Any:
        if self._entries(request).variables.pop(request.match_info["name"].upper(), None) is None:
            raise Refused(404, "Not Found")
        return 204, None

    def _list_environments(self, request: web.Request, _: Any) -> Any:
        repository = self._repository(request)
        places = [repository.told_environment(p) for p in repository.environments.values()]
        return _page(request, "environments", places)

    def _put_environment(self, request: web.Request, body: Any) -> Any:
        repository = self._repository(request)
        place = repository.put_environment(request.match_info["env"], body or {})
        return 200, repository.told_environment(place)

    def _delete_environment(self, request: web.Request, _: Any) -> Any:
        self._place(request)
        del self._repository(request).environments[request.match_info["env"].lower()]
        return 204, None

    def _patterns(self, request: web.Request) -> dict[str, JSON]:
        place = self._place(request)
        policy = place["protection"].get("deployment_branch_policy")
        if not (policy and policy["custom_branch_policies"]):
            raise Refused(404, "Not Found")
        patterns: dict[str, JSON] = place["patterns"]
        return patterns

    def _list_patterns(self, request: web.Request, _: Any) -> Any:
        return _page(request, "branch_policies", list(self._patterns(request).values()))

    def _post_pattern(self, request: web.Request, body: JSON) -> Any:
        patterns = self._patterns(request)
        pattern = {"name": body["name"], "type": body.get("type", "branch")}
        if any({**p, "id": 0} == {**pattern, "id": 0} for p in patterns.values()):
            return 303, None
        id = self._repository(request).number()
        patterns[str(id)] = {"id": id, **pattern}
        return 200, patterns[str(id)]

    def _delete_pattern(self, request: web.Request, _: Any) -> Any:
        if self._patterns(request).pop(request.match_info["id"], None) is None:
            raise Refused(404, "Not Found")
        return 204, None

    def _file(self, request: web.Request, branch: str) -> tuple[Repository, tuple[str, str]]:
        repository = self._repository(request)
        if branch not in repository.branches:
            raise Refused(404, f"Branch {branch} not found")
        return repository, (branch, request.match_info["path"])

    def _read_file(self, request: web.Request, _: Any) -> Any:
        repository, key = self._file(request, request.query.get("ref", "main"))
        if key not in repository.files:
            raise Refused(404, "Not Found")
        raw = repository.files[key]
        lines = b64encode(raw).decode()
        wrapped = "\n".join(lines[i : i + 60] for i in range(0, len(lines), 60)) + "\n"
        return 200, {"type": "file", "path": key[1], "sha": _sha(raw), "content": wrapped}

    def _put_file(self, request: web.Request, body: JSON) -> Any:
        repository, key = self._file(request, body.get("branch", "main"))
        old = repository.files.get(key)
        if old is not None and "sha" not in body:
            raise Refused(422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
        if old is not None and body["sha"] != _sha(old):
            raise Refused(409, f"{key[1]} does not match {body['sha']}")
        raw = b64decode(body["content"], validate=True)
        repository.files[key] = raw
        return 201 if old is None else 200, {"content": {"sha": _sha(raw)}, "commit": {}}

    def _delete_file(self, request: web.Request, body: JSON) -> Any:
        repository, key = self._file(request, body.get("branch", "main"))
        if key not in repository.files:
            raise Refused(404, "Not Found")
        if body["sha"] != _sha(repository.files[key]):
            raise Refused(409, f"{key[1]} does not match {body['sha']}")
        del repository.files[key]
        repository.disabled.discard(key[1])
        return 200, {"content": None, "commit": {}}

    def _list_workflows(self, request: web.Request, _: Any) -> Any:
        return _page(request, "workflows", self._repository(request).workflows())

    def _workflow(self, request: web.Request) -> tuple[Repository, JSON]:
        repository, file = self._repository(request), request.match_info["file"]
        for workflow in repository.workflows():
            if file in (str(workflow["id"]), workflow["path"].rsplit("/", 1)[-1]):
                return repository, workflow
        raise Refused(404, "Not Found")

    def _enable(self, request: web.Request, _: Any) -> Any:
        repository, workflow = self._workflow(request)
        if request.path.endswith("/disable"):
            repository.disabled.add(workflow["path"])
        else:
            repository.disabled.discard(workflow["path"])
        return 204, None

    def _dispatch(self, request: web.Request, body: JSON) -> Any:
        repository, workflow = self._workflow(request)
        if workflow["state"] != "active":
            raise Refused(422, "Cannot trigger a 'workflow_dispatch' on a disabled workflow")
        if body["ref"] not in repository.branches:
            raise Refused(422, f"No ref found for: {body['ref']}")
        if b"workflow_dispatch" not in repository.files["main", workflow["path"]]:
            raise Refused(422, "Workflow does not have 'workflow_dispatch' trigger")
        run = repository.number()
        url = f"https://github.com/{repository.name}/actions/runs/{run}"
        repository.runs.insert(
            0,
            {
                "id": run,
                "workflow_id": workflow["id"],
                "event": "workflow_dispatch",
                "head_branch": body["ref"],
                "status": "completed",
                "conclusion": "success",
                "html_url": url,
                "inputs": body.get("inputs", {}),
            },
        )
        if not body.get("return_run_details"):
            return 204, None
        return 200, {"workflow_run_id": run, "run_url": url, "html_url": url}

    def _list_runs(self, request: web.Request, _: Any) -> Any:
        repository, workflow = self._workflow(request)
        event = request.query.get("event")
        runs = [
            run
            for run in repository.runs
            if run["workflow_id"] == workflow["id"] and event in (None, run["event"])
        ]
        return _page(request, "workflow_runs", runs)

    def _read_run(self, request: web.Request, _: Any) -> Any:
        for run in self._repository(request).runs:
            if str(run["id"]) == request.match_info["run"]:
                return 200, run
        raise Refused(404, "Not Found")

    def _user(self, request: web.Request, _: Any) -> Any:
        headers = {"github-authentication-token-expiration": EXPIRES}
        return 200, {"login": "robot-of-acme", "id": 7, "user_view_type": "public"}, headers

    def _read_user(self, request: web.Request, _: Any) -> Any:
        login = request.match_info["login"].lower()
        if login not in USERS:
            raise Refused(404, "Not Found")
        return 200, {"login": login.title(), "id": USERS[login]}

    def _read_team(self, request: web.Request, _: Any) -> Any:
        slug = request.match_info["slug"]
        if request.match_info["org"] != "acme" or slug not in TEAMS:
            raise Refused(404, "Not Found")
        return 200, {"slug": slug, "id": TEAMS[slug]}

    def _installation(self, request: web.Request, _: Any) -> Any:
        if request.match_info["id"] != str(INSTALLATION):
            raise Refused(404, "Not Found")
        account = {"login": "acme", "type": "Organization"}
        return 200, {"id": INSTALLATION, "app_slug": "acme-keeper", "account": account}

    def _token(self, request: web.Request, _: Any) -> Any:
        self._installation(request, None)
        return 201, {"token": APP_TOKEN, "expires_at": "2099-01-01T00:00:00Z", "permissions": {}}


class GitHubActionsVendor(ServedVendor):
    """GitHub Actions, with a repository that has entries of others."""

    provider = GitHubActions
    # A creation takes some 40 calls: every fault at each of them would take minutes.
    fast = False
    spec: ClassVar[JSON] = {
        "repository": "acme/shop",
        "secrets": [{"name": "npm_token", "secretKeyRef": {"name": "ci", "key": "npm"}}],
        "variables": [{"name": "REGION", "value": "eu-central-1"}],
        "environments": [
            {
                "name": "eu/prod",
                "secrets": [
                    {"name": "DEPLOY_KEY", "secretKeyRef": {"name": "ci", "key": "deploy"}}
                ],
                "variables": [{"name": "URL", "value": "https://shop.acme.example"}],
            }
        ],
        "githubActions": {
            "workflows": [
                {
                    "path": CI,
                    "content": {"value": CONTENT},
                    "dispatch": {"ref": "main", "inputs": {"reason": "setup"}},
                }
            ]
        },
    }
    edits = (
        Edit("a variable's value", {"variables": [{"name": "REGION", "value": "us-east-1"}]}),
        Edit("another variable", {"variables": [*spec["variables"], {"name": "B", "value": "2"}]}),
        Edit("no variables", {"variables": []}),
        Edit(
            "another secret",
            {
                "secrets": [
                    *spec["secrets"],
                    {"name": "B", "secretKeyRef": {"name": "ci", "key": "npm"}},
                ]
            },
        ),
        Edit("no secrets", {"secrets": []}),
        Edit(
            "a name spelled otherwise",
            {"secrets": [{"name": "NPM_TOKEN", "secretKeyRef": {"name": "ci", "key": "npm"}}]},
        ),
        Edit("another environment", {"environments": [*spec["environments"], {"name": "staging"}]}),
        Edit("no environments", {"environments": []}),
        Edit(
            "entries of an environment",
            {
                "environments": [
                    {
                        "name": "eu/prod",
                        "secrets": [{"name": "X", "secretKeyRef": {"name": "ci", "key": "npm"}}],
                        "variables": [{"name": "URL", "value": "https://new.acme.example"}],
                    }
                ]
            },
        ),
        Edit(
            "protection",
            {
                "githubActions": {
                    "protection": [
                        {
                            "environment": "eu/prod",
                            "waitTimer": 15,
                            "preventSelfReview": True,
                            "reviewers": {"users": ["Octavia"], "teams": ["release-crew"]},
                            "deployments": "Custom",
                            "branches": ["main", "release/*"],
                            "tags": ["v*"],
                        }
                    ]
                }
            },
        ),
        Edit(
            "less protection",
            {
                "githubActions": {
                    "protection": [
                        {
                            "environment": "eu/prod",
                            "reviewers": {"users": ["linus-r"]},
                            "deployments": "Custom",
                            "branches": ["main"],
                            "tags": [],
                        }
                    ]
                }
            },
        ),
        Edit(
            "only protected branches",
            {
                "githubActions": {
                    "protection": [{"environment": "eu/prod", "deployments": "Protected"}]
                }
            },
        ),
        Edit(
            "a workflow's content",
            {
                "githubActions": {
                    "workflows": [{"path": CI, "content": {"value": CONTENT + "# 2\n"}}]
                }
            },
        ),
        Edit(
            "a disabled workflow",
            {"githubActions": {"workflows": [{"path": CI, "enabled": False}]}},
        ),
        Edit(
            "a workflow of another branch",
            {
                "githubActions": {
                    "workflows": [
                        {"path": CI, "enabled": True},
                        {
                            "path": ".github/workflows/nightly.yml",
                            "branch": "release",
                            "content": {"value": CONTENT},
                        },
                    ]
                }
            },
        ),
        Edit("no workflows", {"githubActions": {"workflows": []}}),
        Edit(
            "another dispatch",
            {
                "githubActions": {
                    "workflows": [
                        {
                            "path": CI,
                            "content": {"value": CONTENT},
                            "dispatch": {"ref": "release", "trigger": "again"},
                        }
                    ]
                }
            },
        ),
    )
    immutable: ClassVar[JSON | None] = {"repository": "acme/other"}
    refusal = Refusal({"repository": "acme/unheard-of"}, "knows no repository acme/unheard-of")
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "github": {"token": TOKEN},
        "ci": {"npm": "npm_8Qf4Wz1LxV0bTr6Y", "deploy": "-----KEY-----\nmultiline 3Hs9Kd2P"},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"github": {"token": WRONG_TOKEN}}
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {"ci": {"npm": "npm_2Rt7Ux5MnB9cEw3A"}}

    def __init__(self) -> None:
        self.github = GitHub()
        super().__init__(self.github.server)

    async def start(self) -> None:
        if reason := specs_missing():
            # Standard output is for the address, where this is a process of its own.
            print(f"requests are not held against GitHub's description: {reason}", file=sys.stderr)
        await super().start()

    async def reset(self) -> None:
        self.slow = False
        self.github.reset()
        shop = self.shop
        shop.entries.put_secret("OTHERS", "not ours")
        shop.entries.put_variable("OTHERS", "not ours")
        for number in range(35):
            shop.entries.put_variable(f"MORE_{number}", "a second page")
        shop.put_environment("others", {})

    @property
    def shop(self) -> Repository:
        return self.github.repositories["acme/shop"]

    def connection(self, endpoint: str | None) -> JSON:
        token = {"secretKeyRef": {"name": "github", "key": "token"}}
        return {"token": token, "endpoint": endpoint}

    async def count(self) -> int:
        return sum(repository.count() for repository in self.github.repositories.values())

    async def tamper(self, id: str) -> str:
        self.shop.entries.put_variable("REGION", "nowhere")
        return "variables.REGION"

    async def vanish(self, id: str) -> None:
        _, name, _ = parsed(id)
        variables = self.shop.entries.variables
        ledger = Ledger.noted(name, variables)
        assert ledger is not None
        del variables[note_of(name)]
        for key in ledger.holds:
            match key:
                case ("secrets" | "variables" as kind, entry):
                    getattr(self.shop.entries, kind).pop(entry.upper(), None)
                case ("environments", place):
                    self.shop.environments.pop(place.lower(), None)
                case ("workflows", path, "content"):
                    self.shop.files.pop(("main", path), None)
                case _:
                    pass

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        shop = self.shop
        for entry in spec["secrets"]:
            shop.entries.put_secret(entry["name"], "written by someone else")
        for entry in spec["variables"]:
            shop.entries.put_variable(entry["name"], entry["value"])
        for place in spec["environments"]:
            shop.put_environment(place["name"], {})
        if owner is not None:
            held = Ledger(owner=owner, holds=[("secrets", "npm_token"), ("variables", "REGION")])
            shop.entries.put_variable(note_of(name), held.text())

    async def told(self, id: str) -> str:
        return self.shop.told()


def _sha(raw: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()


def _check_name(what: str, name: str) -> None:
    plain = name.replace("_", "a")
    if not (plain.isascii() and plain.isalnum()) or name[0].isdigit():
        raise Refused(422, f"{what} names can only contain alphanumeric characters or underscores")
    if name.upper().startswith("GITHUB_"):
        raise Refused(422, f"{what} names must not start with GITHUB_.")


def _page(request: web.Request, key: str, items: list[JSON], most: int = 100) -> Any:
    size = min(int(request.query.get("per_page", "30")), most)
    page = int(request.query.get("page", "1"))
    there = items[(page - 1) * size : page * size]
    headers = {}
    if page * size < len(items):
        following = request.url.update_query(page=page + 1)
        headers["Link"] = f'<{following}>; rel="next"'
    return 200, {"total_count": len(items), key: there}, headers


def _response(
    request: web.Request, status: int, answer: Any, headers: JSON | None = None
) -> web.Response:
    headers = {"X-GitHub-Request-Id": "C0DE:1234", **(headers or {})}
    if answer is None:
        return web.Response(status=status, headers=headers)
    if request.method == "GET":
        text = json.dumps([answer, headers.get("Link")])
        headers["ETag"] = f'W/"{hashlib.sha1(text.encode()).hexdigest()}"'
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
    return web.json_response(answer, status=status, headers=headers)
