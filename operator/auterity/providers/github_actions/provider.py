"""Keeps a binding at GitHub Actions.

https://docs.github.com/en/rest/actions
"""

from base64 import b64encode
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import quote

from auterity.api.ci_pipeline_binding import Environment
from auterity.engine.contract import Observed, Provider
from auterity.engine.errors import Conflict
from auterity.providers.github_actions.ledger import Ledger, Sent, note_of, parsed, unclaimed
from auterity.providers.github_actions.params import (
    DeploymentPolicy,
    Dispatch,
    GitHubActionsBinding,
    Key,
    Protection,
    Reviewers,
    Workflow,
    branches_of,
    keys_of,
    plain,
)
from auterity.providers.github_actions.seen import Seen, at, file_of, text_of, workflow_of
from auterity.transport.github import GitHubConnector, GitHubSession, seal

JSON = dict[str, Any]


class Touched:
    """Which keys an update is about."""

    def __init__(self, changed: Collection[str] | None) -> None:
        self._changed = changed

    def __call__(self, *key: str) -> bool:
        """Whether the key, something below it or all that it is part of has changed."""
        path = ".".join(key)
        return self._changed is None or any(
            path == c or path.startswith(f"{c}.") or c.startswith(f"{path}.") for c in self._changed
        )


class GitHubActions(Provider[GitHubActionsBinding, GitHubSession]):
    """Secrets, variables, environments and workflows of one repository.

    The id is `<owner>/<repository>#<name>`. For entries that exist without being any binding's,
    their keys follow after a `?`: such an id is only for taking them over.
    """

    kind = "CIPipelineBinding"
    vendor = "githubActions"
    params = GitHubActionsBinding
    connection = GitHubConnector
    docs = "https://docs.github.com/en/rest/actions"
    permissions = (
        "Secrets: write",
        "Variables: write",
        "Environments: write (and Administration: write to protect them)",
        "Actions: write (workflows: enabled, dispatch)",
        "Contents: write and Workflows: write (workflows: content)",
    )
    proof = "a stateful fake that opens the sealed secrets, held against GitHub's own description"
    publishes = (("repository", "The repository, as owner/name."),)
    quirks = (
        "A variable AUTERITY_<NAME> in the repository notes down what the binding holds.",
        "Policy Adopt takes over what a new binding names and what exists already.",
        "What is added to the spec of an existing binding must not exist at GitHub yet.",
        "GitHub makes an environment by itself when a workflow first names it.",
        "Names of secrets, variables and environments do not differ by case.",
        "On private repositories some plans allow no wait timer and no reviewers.",
        "If the answer to a dispatch is lost, a run started by hand meanwhile is taken for it.",
    )

    async def locate(self, want: GitHubActionsBinding) -> str | None:
        id = f"{want.repository}#{want.name}"
        seen = await Seen.of(self.session, want.repository)
        if note_of(want.name) in seen.variables[""]:
            return id
        taken = await seen.look(keys_of(want), branches_of(want))
        return unclaimed(id, taken) if taken else id

    async def read(self, id: str) -> Observed[GitHubActionsBinding] | None:
        repository, name, taken = parsed(id)
        seen = await Seen.of(self.session, repository)
        ledger = Ledger.noted(name, seen.variables[""])
        if ledger is not None:
            id = f"{repository}#{name}"
        elif taken:
            ledger = Ledger(holds=taken)
        else:
            return None
        there = await seen.look(ledger.holds, ledger.branches)
        if taken and ledger.owner is None and not there:
            return None
        actual, versions = seen.actual(ledger)
        return Observed(
            id,
            actual,
            owner=ledger.owner,
            outputs={"repository": repository},
            url=f"{self.session.web}/{repository}/actions",
            summary=await seen.last_runs(ledger),
            versions=versions,
        )

    async def create(self, want: GitHubActionsBinding, owner: str) -> str:
        seen = await Seen.of(self.session, want.repository)
        if note_of(want.name) in seen.variables[""]:
            raise Conflict(f"{want.repository} has a variable {note_of(want.name)} already")
        _refuse(want.repository, await seen.look(keys_of(want), branches_of(want)))
        await self._apply(want, Ledger(owner=owner), seen, Touched(None))
        return f"{want.repository}#{want.name}"

    async def update(
        self, id: str, want: GitHubActionsBinding, changed: frozenset[str], owner: str
    ) -> None:
        seen = await Seen.of(self.session, want.repository)
        ledger = Ledger.noted(want.name, seen.variables[""]) or Ledger()
        await seen.look(ledger.holds, ledger.branches)
        there = await seen.look(keys_of(want), branches_of(want))
        if ledger.owner is not None:
            held = {plain(key) for key in ledger.holds}
            _refuse(want.repository, [key for key in there if plain(key) not in held])
        ledger.owner = owner
        await self._apply(want, ledger, seen, Touched(changed))

    async def delete(self, id: str) -> None:
        repository, name, _ = parsed(id)
        seen = await Seen.of(self.session, repository)
        if (ledger := Ledger.noted(name, seen.variables[""])) is None:
            return
        files = [key for key in ledger.holds if key[0] == "workflows"]
        await seen.look(files, ledger.branches)
        for key in _roots(ledger.holds):
            if key[0] != "protection":
                await self._remove(seen, key, ledger)
        await self.session.remove(f"{at(repository)}/variables/{note_of(name)}")

    async def _apply(
        self, want: GitHubActionsBinding, ledger: Ledger, seen: Seen, touched: Touched
    ) -> None:
        wanted = {plain(key) for key in keys_of(want)}
        gone = [key for key in ledger.holds if plain(key) not in wanted and touched(*key)]
        ledger = ledger.holding(keys_of(want), want)
        await self._note(want.name, ledger, seen)
        protection = {item.environment: item for item in want.protection}
        for place in want.environments:
            protected = protection.get(place.name)
            if not seen.has(("environments", place.name)) or (
                protected is not None and touched("protection", place.name)
            ):
                await self._protect(seen, place.name, protected or _UNPROTECTED)
            await self._entries(seen, place.name, place, touched)
        await self._entries(seen, None, want, touched)
        for key in _roots(gone):
            await self._remove(seen, key, ledger)
        for workflow in want.workflows:
            await self._workflow(seen, workflow, ledger, touched)
            if workflow.dispatch is not None and touched("workflows", workflow.path, "dispatch"):
                await self._dispatch(want.name, workflow.path, workflow.dispatch, ledger, seen)
        paths = {workflow.path for workflow in want.workflows}
        ledger.holds = [key for key in ledger.holds if key not in gone]
        ledger.branches = branches_of(want)
        ledger.dispatches = {path: s for path, s in ledger.dispatches.items() if path in paths}
        await self._note(want.name, ledger, seen)

    async def _note(self, name: str, ledger: Ledger, seen: Seen) -> None:
        """Note the ledger down, if it says something new."""
        variables = seen.variables[""]
        await self._variable(at(seen.repository), note_of(name), ledger.text(), variables)

    async def _entries(
        self,
        seen: Seen,
        environment: str | None,
        entries: GitHubActionsBinding | Environment,
        touched: Touched,
    ) -> None:
        scope = () if environment is None else ("environments", environment)
        here = at(seen.repository, environment)
        public_key: JSON | None = None
        for entry in entries.secrets:
            if touched(*scope, "secrets", entry.name):
                # Every environment has a key of its own.
                public_key = public_key or await self._public_key(here)
                sealed = seal(public_key["key"], entry.reveal())
                body = {"encrypted_value": sealed, "key_id": public_key["key_id"]}
                await self.session.call("PUT", f"{here}/secrets/{entry.name}", body)
        there = seen.variables.setdefault((environment or "").lower(), {})
        for entry in entries.variables:
            if touched(*scope, "variables", entry.name):
                await self._variable(here, entry.name, entry.reveal(), there)

    async def _public_key(self, here: str) -> JSON:
        key: JSON = await self.session.call("GET", f"{here}/secrets/public-key")
        return key

    async def _variable(self, here: str, name: str, value: str, there: dict[str, JSON]) -> None:
        known = there.get(name.upper())
        if known is None:
            await self.session.call("POST", f"{here}/variables", {"name": name, "value": value})
        elif known["value"] != value:
            await self.session.call("PATCH", f"{here}/variables/{name}", {"value": value})
        there[name.upper()] = {"name": name, "value": value}

    async def _protect(self, seen: Seen, name: str, want: Protection) -> None:
        """Make the environment with its protection; what is not declared stays as it is.

        A PUT replaces everything. Fields that are and stay at their defaults are left out, since
        plans without protection rules refuse them even then.
        """
        now = seen.protection(name)
        declared = {part: getattr(want, part) for part in _PARTS if getattr(want, part) is not None}
        then = now.model_copy(update=declared)
        body: JSON = {}
        if then.wait_timer or now.wait_timer:
            body["wait_timer"] = then.wait_timer
        if then.prevent_self_review or now.prevent_self_review:
            body["prevent_self_review"] = then.prevent_self_review
        reviewers = await self._reviewers(seen.repository, then.reviewers or Reviewers())
        if reviewers or now.reviewers != Reviewers():
            body["reviewers"] = reviewers
        if {then.deployments, now.deployments} != {DeploymentPolicy.ALL}:
            body["deployment_branch_policy"] = _POLICIES[then.deployments or DeploymentPolicy.ALL]
        here = at(seen.repository, name)
        await self.session.call("PUT", here, body or None)
        if then.deployments is DeploymentPolicy.CUSTOM:
            await self._patterns(f"{here}/deployment-branch-policies", name, want, seen)

    async def _reviewers(self, repository: str, reviewers: Reviewers) -> list[JSON]:
        """With their ids, which is how GitHub takes them."""
        organization = repository.split("/", maxsplit=1)[0]
        users = [f"/users/{quote(login)}" for login in sorted(reviewers.users)]
        teams = [f"/orgs/{organization}/teams/{quote(slug)}" for slug in sorted(reviewers.teams)]
        return [
            {"type": type_, "id": (await self.session.call("GET", path))["id"]}
            for type_, paths in (("User", users), ("Team", teams))
            for path in paths
        ]

    async def _patterns(self, here: str, name: str, want: Protection, seen: Seen) -> None:
        there = [(p.get("type", "branch"), p) for p in seen.patterns.get(name.lower(), ())]
        for type_, patterns in (("branch", want.branches), ("tag", want.tags)):
            if patterns is None:
                continue
            known = {p["name"]: p["id"] for has_type, p in there if has_type == type_}
            for pattern in sorted(patterns - set(known)):
                await self.session.call("POST", here, {"name": pattern, "type": type_})
            for pattern in sorted(set(known) - patterns):
                await self.session.remove(f"{here}/{known[pattern]}")

    async def _workflow(self, seen: Seen, want: Workflow, ledger: Ledger, touched: Touched) -> None:
        if want.content is not None and touched("workflows", want.path, "content"):
            known, content = seen.files.get(want.path), want.content.reveal()
            if known is None or text_of(known) != content:
                body = {
                    "message": f"Write {want.path} for {ledger.owner}",
                    "content": b64encode(content.encode()).decode(),
                    **({"sha": known["sha"]} if known else {}),
                    **({"branch": want.branch} if want.branch else {}),
                }
                await self.session.call("PUT", file_of(seen.repository, want.path), body)
        if want.enabled is not None and touched("workflows", want.path, "enabled"):
            state = (await seen.registered(want.path))["state"]
            if (state == "active") is not want.enabled:
                verb = "enable" if want.enabled else "disable"
                path = f"{workflow_of(seen.repository, want.path)}/{verb}"
                await self.session.call("PUT", path)

    async def _dispatch(
        self, name: str, path: str, dispatch: Dispatch, ledger: Ledger, seen: Seen
    ) -> None:
        """Start a run, once: what is about to be sent is noted down first, its run right after.

        If the answer is lost, the run is looked for among those that started since.
        """
        sent = ledger.dispatches.setdefault(path, Sent())
        if sent.sent == dispatch:
            return
        await seen.registered(path)
        workflow = workflow_of(seen.repository, path)
        query = {"event": "workflow_dispatch", "per_page": 30}
        runs = (await self.session.call("GET", f"{workflow}/runs", **query))["workflow_runs"]
        branch = dispatch.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        since = [r["id"] for r in runs if r["id"] > sent.after and r["head_branch"] == branch]
        if sent.sending == dispatch and since:
            run = min(since)
        else:
            sent.sending = dispatch
            sent.after = max((r["id"] for r in runs), default=0)
            await self._note(name, ledger, seen)
            body = {"ref": dispatch.ref, "inputs": dispatch.inputs, "return_run_details": True}
            answer = await self.session.call("POST", f"{workflow}/dispatches", body)
            run = (answer or {}).get("workflow_run_id")
        ledger.dispatches[path] = Sent(sent=dispatch, run=run)
        await self._note(name, ledger, seen)

    async def _remove(self, seen: Seen, key: Key, ledger: Ledger) -> None:
        match key:
            case ("workflows", path, "content") if path in seen.files:
                body = {
                    "message": f"Remove {path} of {ledger.owner}",
                    "sha": seen.files[path]["sha"],
                    **({"branch": ledger.branches[path]} if path in ledger.branches else {}),
                }
                await self.session.remove(file_of(seen.repository, path), body)
            case ("protection", name) if seen.has(("environments", name)):
                await self._protect(seen, name, _UNPROTECTED)
            case ("environments", name):
                await self.session.remove(at(seen.repository, name))
            case ("environments", name, kind, entry):
                await self.session.remove(f"{at(seen.repository, name)}/{kind}/{entry}")
            case ("secrets" | "variables" as kind, entry):
                await self.session.remove(f"{at(seen.repository)}/{kind}/{entry}")
            case _:
                pass  # a workflow's state and its runs stay


_UNPROTECTED: Final = Protection(
    environment="any",
    wait_timer=0,
    reviewers=Reviewers(),
    prevent_self_review=False,
    deployments=DeploymentPolicy.ALL,
)
_POLICIES: Final[dict[DeploymentPolicy, JSON | None]] = {
    DeploymentPolicy.ALL: None,
    DeploymentPolicy.PROTECTED: {"protected_branches": True, "custom_branch_policies": False},
    DeploymentPolicy.CUSTOM: {"protected_branches": False, "custom_branch_policies": True},
}


_PARTS: Final = ("wait_timer", "reviewers", "prevent_self_review", "deployments")


def _roots(keys: list[Key]) -> list[Key]:
    """Those keys that do not go by themselves when an environment goes."""
    places = {key[1] for key in keys if key == ("environments", key[1])}
    inside = ("environments", "protection")
    return [
        key
        for key in keys
        if key == ("environments", key[1]) or key[0] not in inside or key[1] not in places
    ]


def _refuse(repository: str, taken: list[Key]) -> None:
    if taken:
        names = ", ".join(" ".join(key) for key in taken)
        raise Conflict(
            f"{names} exists already in {repository} and is not this binding's; delete it there, "
            "or take it over by a new binding with policy Adopt"
        )
