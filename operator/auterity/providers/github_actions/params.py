"""What users declare of a binding at GitHub Actions."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from auterity.api.ci_pipeline_binding import CIPipelineBinding, Environment
from auterity.api.fields import IMMUTABLE, Keyed, Model, Rule, ShortText, Value

Key = tuple[str, ...]
"""What a binding holds, such as ("secrets", "TOKEN"), ("environments", "prod", "secrets", "TOKEN")
or ("workflows", <path>, "content"): the engine's path of it, in parts."""
PREFIX: Final = "AUTERITY_"
"""How the names of the variables begin that bindings are noted down in."""

EnvironmentName = Annotated[str, Field(min_length=1, max_length=255)]
Pattern = Annotated[str, Field(min_length=1, max_length=255)]
Login = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(str.lower)]
WorkflowPath = Annotated[
    str,
    Field(max_length=255, pattern=r"^\.github/workflows/[^/]+\.ya?ml$"),
]


class DeploymentPolicy(StrEnum):
    """Which branches and tags may deploy to an environment."""

    ALL = "All"
    PROTECTED = "Protected"
    CUSTOM = "Custom"


class Reviewers(Model):
    """Who may approve a deployment; one approval is enough. GitHub allows six in all."""

    users: Annotated[set[Login], Field(max_length=6)] = Field(default_factory=set)
    """Logins of users."""
    teams: Annotated[set[Login], Field(max_length=6)] = Field(default_factory=set)
    """Slugs of teams of the organization that owns the repository."""


class Protection(Model):
    """What a deployment to an environment has to pass. What is left out is left as it is."""

    rules = (
        Rule(
            "(has(self.deployments) && self.deployments == 'Custom') || "
            "((!has(self.branches) || size(self.branches) == 0) && "
            "(!has(self.tags) || size(self.tags) == 0))",
            "branches and tags need deployments: Custom",
        ),
    )

    environment: EnvironmentName
    """The environment, which must be among the spec's environments."""
    wait_timer: Annotated[int, Field(ge=0, le=43200)] | None = None
    """Minutes to wait before a job of the environment starts."""
    reviewers: Reviewers | None = None
    """Who has to approve a deployment; an empty block removes all reviewers."""
    prevent_self_review: bool | None = None
    """Whether someone else than who started the run has to approve. Needs reviewers."""
    deployments: DeploymentPolicy | None = None
    """All: any branch or tag may deploy. Protected: only protected branches. Custom: only what
    matches the patterns below."""
    branches: Annotated[set[Pattern], Field(max_length=50)] | None = None
    """Patterns of the branches that may deploy, such as release/*. Needs deployments: Custom."""
    tags: Annotated[set[Pattern], Field(max_length=50)] | None = None
    """Patterns of the tags that may deploy, such as v*. Needs deployments: Custom."""

    @model_validator(mode="after")
    def _patterns_need_custom(self) -> Self:
        patterns = self.branches or self.tags
        if patterns and self.deployments is not DeploymentPolicy.CUSTOM:
            raise ValueError("branches and tags need deployments: Custom")
        return self


class Dispatch(Model):
    """A run of a workflow, started once for every change of this block."""

    ref: Annotated[str, Field(min_length=1, max_length=255)]
    """The branch or tag whose workflow runs."""
    inputs: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=100)],
            Annotated[str, Field(max_length=1024)],
        ],
        Field(max_length=25),
    ] = Field(default_factory=dict)
    """Inputs of the workflow. Not for secrets: everyone who may read the repository sees them."""
    trigger: ShortText | None = None
    """Any text; change it to start the same run again."""


class Workflow(Model):
    """A workflow of the repository."""

    path: WorkflowPath
    """Path of its file, such as .github/workflows/deploy.yml."""
    content: Value | None = None
    """The file's content, committed whenever it differs. Left out: the file is the repository's
    own, and only what is declared below is kept."""
    branch: Annotated[Annotated[str, Field(min_length=1, max_length=255)] | None, IMMUTABLE] = None
    """The branch that the file is committed to; the default branch if left out. Cannot change."""
    enabled: bool | None = None
    """Whether the workflow may run. GitHub disables scheduled workflows of public repositories
    after 60 quiet days; true enables them again."""
    dispatch: Dispatch | None = None
    """A run to start. The workflow must have the trigger workflow_dispatch."""


class GitHubActionsBinding(CIPipelineBinding):
    """A binding at GitHub Actions."""

    protection: Annotated[list[Protection], Keyed("environment"), Field(max_length=20)] = Field(
        default_factory=list
    )
    """Protection of environments."""
    workflows: Annotated[list[Workflow], Keyed("path"), Field(max_length=20)] = Field(
        default_factory=list
    )
    """Workflows of the repository."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        keys = keys_of(self)
        if twins := [key for key in keys if [plain(k) for k in keys].count(plain(key)) > 1]:
            names = ", ".join(sorted(key[-1] for key in twins))
            raise ValueError(f"these names are the same to GitHub: {names}")
        if any(entry.name.upper().startswith(PREFIX) for entry in self.variables):
            raise ValueError(f"names of variables that begin with {PREFIX} are reserved")
        for item in self.protection:
            if ("environments", item.environment) not in keys:
                raise ValueError(f"protection of {item.environment}, which is no environment here")
        return self


def keys_of(want: "GitHubActionsBinding") -> list[Key]:
    """Everything that a binding is to hold."""
    keys = _entries_of((), want)
    for place in want.environments:
        scope = ("environments", place.name)
        keys += [scope, *_entries_of(scope, place)]
    keys += [("protection", item.environment) for item in want.protection]
    for workflow in want.workflows:
        keys.append(("workflows", workflow.path))
        keys += [("workflows", workflow.path, "content")] if workflow.content is not None else []
    return keys


def plain(key: Key) -> Key:
    """A key as GitHub tells it apart from others: paths by case, names not."""
    return key if key[0] == "workflows" else tuple(part.lower() for part in key)


def branches_of(want: GitHubActionsBinding) -> dict[str, str]:
    """The branches of workflow files that are not on the default branch."""
    return {w.path: w.branch for w in want.workflows if w.branch is not None}


def _entries_of(scope: Key, entries: GitHubActionsBinding | Environment) -> list[Key]:
    return [
        *((*scope, "secrets", entry.name) for entry in entries.secrets),
        *((*scope, "variables", entry.name) for entry in entries.variables),
    ]
