"""What GitHub has: looked at through its API, and told in the binding's own terms."""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self
from urllib.parse import quote

from auterity.api.ci_pipeline_binding import Entry, Environment
from auterity.api.fields import Value
from auterity.engine.errors import Busy, NotFound, Rejected
from auterity.providers.github_actions.ledger import Ledger
from auterity.providers.github_actions.params import (
    DeploymentPolicy,
    Dispatch,
    GitHubActionsBinding,
    Key,
    Protection,
    Reviewers,
    Workflow,
)
from auterity.transport.github import GitHubSession

JSON = dict[str, Any]
VARIABLES_A_PAGE: Final = 30
"""GitHub gives no more variables at once."""


class Seen:
    """What a repository has, as far as it was looked at.

    Secrets and variables are by scope (an environment's name in lower case, "" for the
    repository) and name in upper case.
    """

    def __init__(self, session: GitHubSession, repository: str) -> None:
        self.session, self.repository = session, repository
        self.variables: dict[str, dict[str, JSON]] = {}
        self.secrets: dict[str, dict[str, JSON]] = {}
        self.environments: dict[str, JSON] = {}
        self.patterns: dict[str, list[JSON]] = {}
        """Deployment branch policies, by environment."""
        self.files: dict[str, JSON] = {}
        self.workflows: dict[str, JSON] = {}

    @classmethod
    async def of(cls, session: GitHubSession, repository: str) -> Self:
        """The repository with its variables. Raises Rejected if there is no such repository."""
        seen = cls(session, repository)
        try:
            seen.variables[""] = await seen._named(at(repository), "variables")
        except NotFound:
            # Not "absent": what the binding holds may well be there.
            raise Rejected(
                f"GitHub knows no repository {repository}, or the credentials may not see it"
            ) from None
        return seen

    def entry(self, key: Key) -> JSON | None:
        """The secret or variable of a key."""
        scope = key[1].lower() if key[0] == "environments" else ""
        kind = self.secrets if key[-2] == "secrets" else self.variables
        return kind.get(scope, {}).get(key[-1].upper())

    def has(self, key: Key) -> bool:
        """Whether what a key stands for exists, so that it could be another's."""
        match key:
            case ("workflows", path, "content"):
                return path in self.files
            case ("environments", name):
                return name.lower() in self.environments
            case ("protection" | "workflows", _):
                return False
            case _:
                return self.entry(key) is not None

    async def look(self, keys: Iterable[Key], branches: Mapping[str, str]) -> list[Key]:
        """See what there is of these keys; those of them that exist."""
        keys = list(keys)
        kinds = {key[0] for key in keys}
        if "secrets" in kinds and "" not in self.secrets:
            self.secrets[""] = await self._named(at(self.repository), "secrets")
        if "environments" in kinds and not self.environments:
            path = f"/repos/{self.repository}/environments"
            found = await self.session.pages(path, "environments")
            self.environments = {item["name"].lower(): item for item in found}
        if "workflows" in kinds and not self.workflows:
            await self._look_at_workflows()
        for key in keys:
            await self._look_at(key, branches)
        return [key for key in keys if self.has(key)]

    async def registered(self, path: str) -> JSON:
        """The workflow of a file, which GitHub knows only some seconds after the commit."""
        if path not in self.workflows:
            await self._look_at_workflows()
        if path not in self.workflows:
            raise Busy(
                f"GitHub knows no workflow {path} in {self.repository} yet; its file has to be on "
                "the default branch"
            )
        return self.workflows[path]

    async def last_runs(self, ledger: Ledger) -> dict[str, str]:
        """The run of each workflow that was dispatched, else its last one."""
        told = {}
        for path in ledger.names("workflows"):
            sent = ledger.dispatches.get(path)
            if sent is not None and sent.run is not None:
                run = await self.session.find(f"{at(self.repository)}/runs/{sent.run}")
            else:
                runs = f"{workflow_of(self.repository, path)}/runs"
                page = await self.session.find(runs, per_page=1, exclude_pull_requests="true")
                run = next(iter((page or {}).get("workflow_runs") or ()), None)
            if run is not None:
                state = run.get("conclusion") or run.get("status") or "unknown"
                told[path.rsplit("/", 1)[-1]] = f"{state}: {run['html_url']}"
        return told

    def actual(self, ledger: Ledger) -> tuple[GitHubActionsBinding, dict[str, str]]:
        """What there is of what the ledger holds, and when its secrets were last written."""
        versions: dict[str, str] = {}
        for key in ledger.holds:
            if "secrets" in key[-2:-1] and (body := self.entry(key)) is not None:
                versions[".".join(key)] = body["updated_at"]
        there = [name for name in ledger.names("environments") if self.has(("environments", name))]
        workflows = (self._workflow(path, ledger) for path in ledger.names("workflows"))
        actual = GitHubActionsBinding.seen(
            repository=self.repository,
            secrets=self._entries(ledger, (), "secrets"),
            variables=self._entries(ledger, (), "variables"),
            environments=[
                Environment.model_construct(
                    name=name,
                    secrets=self._entries(ledger, ("environments", name), "secrets"),
                    variables=self._entries(ledger, ("environments", name), "variables"),
                )
                for name in there
            ],
            protection=[self.protection(n) for n in ledger.names("protection") if n in there],
            workflows=[workflow for workflow in workflows if workflow is not None],
        )
        return actual, versions

    def protection(self, name: str) -> Protection:
        """The protection that an environment has; none if there is no such environment."""
        found = self.environments.get(name.lower(), {})
        rules = {rule["type"]: rule for rule in found.get("protection_rules") or ()}
        required = rules.get("required_reviewers", {})
        reviewers = Reviewers()
        for item in required.get("reviewers") or ():
            if item["type"] == "Team":
                reviewers.teams.add(item["reviewer"]["slug"].lower())
            else:
                reviewers.users.add(item["reviewer"]["login"].lower())
        policy = found.get("deployment_branch_policy")
        deployments = DeploymentPolicy.ALL
        if policy:
            custom = policy["custom_branch_policies"]
            deployments = DeploymentPolicy.CUSTOM if custom else DeploymentPolicy.PROTECTED
        patterns = self.patterns.get(name.lower(), ())
        told: JSON = {
            "environment": name,
            "wait_timer": rules.get("wait_timer", {}).get("wait_timer", 0),
            "reviewers": reviewers,
            "deployments": deployments,
            "branches": {p["name"] for p in patterns if p.get("type", "branch") == "branch"},
            "tags": {p["name"] for p in patterns if p.get("type") == "tag"},
        }
        if required:
            # GitHub tells it only beside reviewers.
            told["prevent_self_review"] = bool(required.get("prevent_self_review"))
        return Protection.model_construct(set(told), **told)

    def _entries(self, ledger: Ledger, scope: Key, kind: str) -> list[Entry]:
        entries = []
        for key in ledger.holds:
            if key[:-1] == (*scope, kind) and (body := self.entry(key)) is not None:
                entry = Entry.model_construct(name=key[-1])
                if kind == "variables":
                    entry.resolve(body["value"], "")
                entries.append(entry)
        return entries

    def _workflow(self, path: str, ledger: Ledger) -> Workflow | None:
        sent = ledger.dispatches.get(path)
        told: JSON = {
            "path": path,
            "content": None,
            "branch": ledger.branches.get(path),
            # Every field counts as told, also those that were left out.
            "dispatch": Dispatch(**dict(sent.sent)) if sent and sent.sent else None,
        }
        if ("workflows", path, "content") in ledger.holds:
            if path not in self.files:
                return None
            told["content"] = Value.model_construct()
            told["content"].resolve(text_of(self.files[path]), "")
        if path in self.workflows:
            told["enabled"] = self.workflows[path]["state"] == "active"
        return Workflow.model_construct(set(told), **told)

    async def _look_at(self, key: Key, branches: Mapping[str, str]) -> None:
        match key:
            case ("environments", name, kind, _) if self.has(("environments", name)):
                entries = self.secrets if kind == "secrets" else self.variables
                if name.lower() not in entries:
                    entries[name.lower()] = await self._named(at(self.repository, name), kind)
            case ("protection", name) if self._has_patterns(name):
                path = f"{at(self.repository, name)}/deployment-branch-policies"
                self.patterns[name.lower()] = await self.session.pages(path, "branch_policies")
            case ("workflows", path, "content") if path not in self.files:
                ref = {"ref": branches[path]} if path in branches else {}
                file = await self.session.find(file_of(self.repository, path), **ref)
                if file is not None:
                    self.files[path] = file
            case _:
                pass  # the lists have it

    async def _look_at_workflows(self) -> None:
        found = await self.session.pages(f"{at(self.repository)}/workflows", "workflows")
        self.workflows = {item["path"]: item for item in found}

    async def _named(self, scope: str, kind: str) -> dict[str, JSON]:
        size = VARIABLES_A_PAGE if kind == "variables" else 100
        items = await self.session.pages(f"{scope}/{kind}", kind, size=size)
        return {item["name"].upper(): item for item in items}

    def _has_patterns(self, name: str) -> bool:
        policy = self.environments.get(name.lower(), {}).get("deployment_branch_policy")
        return bool(policy and policy["custom_branch_policies"])


def at(repository: str, environment: str | None = None) -> str:
    """The path that secrets and variables of the repository or an environment are under."""
    if environment is None:
        return f"/repos/{repository}/actions"
    return f"/repos/{repository}/environments/{quote(environment, safe='')}"


def file_of(repository: str, path: str) -> str:
    """The path of a file."""
    return f"/repos/{repository}/contents/{quote(path)}"


def workflow_of(repository: str, path: str) -> str:
    """The path of a workflow, which GitHub also knows by the name of its file."""
    return f"{at(repository)}/workflows/{quote(path.rsplit('/', 1)[-1])}"


def text_of(file: JSON) -> str:
    """The text of a file as GitHub answers it."""
    return b64decode(file.get("content") or "").decode(errors="replace")
