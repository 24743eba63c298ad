"""TuningJob: a fine-tuning or training run, made once and run to its end."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from auterity.api.cost import Priced, PricedStatus
from auterity.api.fields import IMMUTABLE, SHARED, ShortText, Text, TextMap


class Method(StrEnum):
    """What the model learns from."""

    SUPERVISED = "Supervised"
    PREFERENCE = "Preference"
    REINFORCEMENT = "Reinforcement"


class TuningJob(Priced):
    """A fine-tuning or training run to its end.

    It is made once and never repeated: to run again, declare another one. The model that it makes
    is the output `model`, which a ModelDeployment can serve by `model.modelRef`. Deleting the
    object stops a run that is under way; the model that a run has made is kept unless
    deletionPolicy is Delete. What it has written to a bucket of yours stays in any case.
    """

    base_model: Annotated[Text | None, IMMUTABLE] = None
    """Model to start from, in the vendor's words."""
    training_data: Annotated[Text | None, IMMUTABLE] = None
    """What to learn from: the id of a file at the vendor, or an address such as
    s3://bucket/data.jsonl."""
    validation_data: Annotated[Text | None, IMMUTABLE] = None
    """What to measure the progress with, told like trainingData."""
    method: Annotated[Method | None, IMMUTABLE] = None
    """Supervised: from examples. Preference: from pairs of a better and a worse answer.
    Reinforcement: from a grader. The vendor's own default if left out."""
    epochs: Annotated[Annotated[int, Field(ge=1, le=1000)] | None, IMMUTABLE] = None
    """How often all of the training data is gone through; the vendor decides if left out."""
    seed: Annotated[Annotated[int, Field(ge=0, le=2147483647)] | None, IMMUTABLE] = None
    """Makes a run repeatable, as far as the vendor allows."""
    model_name: Annotated[ShortText | None, IMMUTABLE] = None
    """Name of the model that is made, or the ending of it where the vendor chooses the rest."""
    hyperparameters: Annotated[TextMap | None, IMMUTABLE, SHARED] = None
    """Further settings of the run in the vendor's words."""


class RunStatus(PricedStatus):
    """The truth about a run."""

    completed: bool | None = None
    """Whether it has run to its end and made its model. Nothing undoes that: not even the vendor
    forgetting the run."""
