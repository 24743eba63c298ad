"""Training jobs of Amazon SageMaker, as of 2026-11.

What it knows beyond the service model: jobs take their time, their names are unique, only one in
progress can be stopped and only one that has ended be deleted, lists have pages. The texts of
refusals are those seen from AWS.
"""

# ruff: noqa: N802, N803 - operations and members are called as AWS calls them

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar

from auterity.providers.sagemaker.training import SageMakerTraining
from auterity.transport.aws import OWNER_TAG
from tests.conformance.vendor import Refusal
from tests.fakes.aws import ACCOUNT, JSON, REGION, AwsVendor, Refused
from tests.fakes.sagemaker import AutoScaling, SageMaker, _arn, _invalid, _page

ROLE = f"arn:aws:iam::{ACCOUNT}:role/training"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/training:1"
BETWEEN = ("InProgress", "Stopping", "Deleting")


class Training(SageMaker):
    """Training jobs, with the tags that all of SageMaker has."""

    def __init__(self, violations: list[str]) -> None:
        super().__init__(AutoScaling(), violations)
        self.jobs: dict[str, JSON] = {}
        self.packages: set[str] = set()
        """Model packages that serverless jobs have made."""

    def CreateTrainingJob(
        self, TrainingJobName: str, Tags: Sequence[JSON] = (), **job: Any
    ) -> JSON:
        arn = _arn("training-job", TrainingJobName)
        if TrainingJobName in self.jobs:
            raise Refused(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a "
                f"training job with this name already exists ({arn})",
            )
        self._check(job)
        if self.quota is not None and len(self.jobs) >= self.quota:
            kind = job["ResourceConfig"]["InstanceType"]
            raise Refused(
                "ResourceLimitExceeded",
                f"The account-level service limit '{kind} for training job usage' is "
                f"{self.quota} Instances, with current utilization of {self.quota} Instances.",
            )
        now = next(self._clock)
        path = f"{job['OutputDataConfig']['S3OutputPath']}/{TrainingJobName}/output/model.tar.gz"
        if serverless := job.get("ServerlessJobConfig"):
            # Of the model, the version that was the latest is told.
            model = f"{serverless['BaseModelArn']}/2.1.0"
            job["ServerlessJobConfig"] = {**serverless, "BaseModelArn": model}
        self.jobs[TrainingJobName] = {
            **job,
            "TrainingJobName": TrainingJobName,
            "TrainingJobArn": arn,
            "ModelArtifacts": {"S3ModelArtifacts": path},
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "CreationTime": now,
        }
        self._tag(arn, Tags)
        return {"TrainingJobArn": arn}

    @staticmethod
    def _check(job: JSON) -> None:
        stopping, serverless = job["StoppingCondition"], job.get("ServerlessJobConfig")
        if (serverless is None) == ("AlgorithmSpecification" not in job):
            raise _invalid("Specify either AlgorithmSpecification or ServerlessJobConfig")
        if serverless and set(job) & {"ResourceConfig", "CheckpointConfig", "Environment"}:
            raise _invalid("A serverless job has no ResourceConfig, checkpoints or environment")
        if serverless and "llama" in serverless["BaseModelArn"] and not serverless["AcceptEula"]:
            raise _invalid("The end-user license agreement of the model must be accepted.")
        if job.get("EnableManagedSpotTraining"):
            if stopping["MaxWaitTimeInSeconds"] < stopping["MaxRuntimeInSeconds"]:
                raise _invalid("MaxWaitTimeInSeconds must be no less than MaxRuntimeInSeconds")
        elif "MaxWaitTimeInSeconds" in stopping:
            raise _invalid("MaxWaitTimeInSeconds needs EnableManagedSpotTraining")
        for channel in job.get("InputDataConfig", ()):
            source = channel["DataSource"].get("S3DataSource", {})
            if "no-such" in (uri := source.get("S3Uri", "")):
                raise _invalid(
                    f"No S3 objects found under S3 URL {uri!r} given in input data source."
                )

    def DescribeTrainingJob(self, TrainingJobName: str) -> JSON:
        told = deepcopy(self._job(TrainingJobName))
        if not self.slow:
            self.advance(TrainingJobName)
        return told

    def ListTrainingJobs(self, NameContains: str, NextToken: str = "0") -> JSON:
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingJobStatus")
        found = [
            {key: job[key] for key in keys}
            for name, job in self.jobs.items()
            if NameContains in name
        ]
        return _page("TrainingJobSummaries", found, NextToken)

    def StopTrainingJob(self, TrainingJobName: str) -> None:
        job = self._job(TrainingJobName)
        if (status := job["TrainingJobStatus"]) != "InProgress":
            raise _invalid(
                f"The request was rejected because the training job is in status {status}."
            )
        job |= {"TrainingJobStatus": "Stopping", "SecondaryStatus": "Stopping"}

    def DeleteTrainingJob(self, TrainingJobName: str) -> None:
        job = self._job(TrainingJobName)
        if (status := job["TrainingJobStatus"]) in BETWEEN:
            raise Refused("ResourceInUse", f"The training job is in status {status}.")
        job["TrainingJobStatus"] = "Deleting"

    def advance(self, name: str) -> None:
        """The next state of a job that is in between."""
        job, reason = self.jobs[name], self.breaks
        match job["TrainingJobStatus"]:
            case "InProgress":
                self.breaks = None
                status = "Failed" if reason else "Completed"
                job |= {"TrainingJobStatus": status, "SecondaryStatus": status}
                job |= {"FailureReason": reason} if reason else {}
                if "ServerlessJobConfig" in job:
                    job["ProgressInfo"] = {"CurrentEpoch": 2, "MaxEpoch": 2}
                    if not reason:
                        self._register(job)
            case "Stopping":
                job |= {"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}
            case "Deleting":
                self.tags.pop(job["TrainingJobArn"], None)
                del self.jobs[name]

    def DeleteModelPackage(self, ModelPackageName: str) -> None:
        if ModelPackageName not in self.packages:
            raise _invalid(f"ModelPackage {ModelPackageName} does not exist.")
        self.packages.remove(ModelPackageName)

    def _register(self, job: JSON) -> None:
        group = job["ModelPackageConfig"]["ModelPackageGroupArn"].rpartition("/")[2]
        arn = f"{_arn('model-package', group)}/{next(self._clock) % 10_000}"
        job["OutputModelPackageArn"] = arn
        self.packages.add(arn)

    def _job(self, name: str) -> JSON:
        if name not in self.jobs:
            raise _invalid("Requested resource not found.")
        return self.jobs[name]


class _Jobs(AwsVendor):
    """Training jobs behind the provider."""

    provider = SageMakerTraining
    key = "AKIACONFORMANCE00004"
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "aws": {"secretAccessKey": "u2Sm74ikNr3sYeO5pC3wTy1xXf8dQb6hMj0lUn+/"}
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "aws": {"secretAccessKey": "wrong2Sm74ikNr3sYeO5pC3wTy1xXf8dQb6hMj0l"}
    }
    has_pending = True

    def serve(self) -> None:
        self.account = self.training = Training(self.aws.violations)
        self.aws.add("sagemaker", self.training, "ValidationException")

    async def reset(self) -> None:
        self.training.jobs.clear()
        self.training.packages.clear()
        self.training.tags.clear()
        self.slow = False

    async def count(self) -> int:
        return len(self.training.jobs) + len(self.training.packages)

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def vanish(self, id: str) -> None:
        slow = self.slow
        await self.reset()
        self.slow = slow

    async def settle(self) -> None:
        for name in list(self.training.jobs):
            self.training.advance(name)

    async def told(self, id: str) -> str:
        return json.dumps([self.training.jobs, self.training.tags])


HUB_MODEL = f"arn:aws:sagemaker:{REGION}:aws:hub-content/SageMakerPublicHub/Model/amazon-nova-lite"
GROUP = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/search"

DATASET = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:hub-content/own/DataSet/check/1.0.0"


class ServerlessVendor(_Jobs):
    """Fine-tuning of a model of the hub."""

    variant = "serverless"
    spec: ClassVar[JSON] = {
        "baseModel": HUB_MODEL,
        "trainingData": "s3://acme/search/train.jsonl",
        "validationData": DATASET,
        "method": "Preference",
        "hyperparameters": {"learning_rate": "0.0001"},
        "sageMaker": {
            "executionRoleArn": ROLE,
            "serverless": {"modelPackageGroupArn": GROUP, "sequenceLength": "8K"},
            "output": "s3://acme/search/models",
            "tags": {"team": "search"},
        },
    }
    immutable: ClassVar[JSON] = {"method": "Supervised"}
    refusal = Refusal(
        {"baseModel": HUB_MODEL.replace("amazon-nova-lite", "meta-llama-3")}, "must be accepted"
    )

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        block = spec["sageMaker"]
        checked = {"DatasetSource": {"DatasetArn": spec["validationData"]}}
        self.training.CreateTrainingJob(
            name,
            Tags=[{"Key": OWNER_TAG, "Value": owner}] if owner else [],
            RoleArn=block["executionRoleArn"],
            OutputDataConfig={"S3OutputPath": block["output"]},
            StoppingCondition={"MaxRuntimeInSeconds": 86400},
            HyperParameters=spec["hyperparameters"],
            InputDataConfig=[
                _channel("train", spec["trainingData"]),
                {"ChannelName": "validation", "DataSource": checked},
            ],
            ServerlessJobConfig={
                "BaseModelArn": spec["baseModel"],
                "JobType": "FineTuning",
                "CustomizationTechnique": "DPO",
                "AcceptEula": False,
                "Peft": "LORA",
                "SequenceLength": "8K",
            },
            ModelPackageConfig={"ModelPackageGroupArn": GROUP},
        )
        await self.settle()


class TrainingVendor(_Jobs):
    """Training by an image."""

    spec: ClassVar[JSON] = {
        "trainingData": "s3://acme/churn/train",
        "validationData": "s3://acme/churn/check",
        "baseModel": "s3://acme/churn/1/model.tar.gz",
        "epochs": 3,
        "seed": 42,
        "hyperparameters": {"learning_rate": "0.1"},
        "sageMaker": {
            "executionRoleArn": ROLE,
            "trainingImage": IMAGE,
            "instanceType": "ml.m5.xlarge",
            "maxRuntime": "2h",
            "spotMaxWait": "4h",
            "checkpoints": "s3://acme/churn/checkpoints",
            "output": "s3://acme/churn/models",
            "contentType": "text/csv",
            "channels": [{"name": "vocabulary", "address": "s3://acme/words"}],
            "environment": {"LOG_LEVEL": "info"},
            "vpc": {"subnets": ["subnet-2", "subnet-1"], "securityGroups": ["sg-1"]},
            "kmsKeyId": "alias/models",
            "tags": {"team": "growth"},
        },
    }
    immutable: ClassVar[JSON] = {"epochs": 4}
    refusal = Refusal({"trainingData": "s3://acme/no-such"}, "No S3 objects found")

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        block = spec["sageMaker"]
        self.training.CreateTrainingJob(
            name,
            Tags=[{"Key": OWNER_TAG, "Value": owner}] if owner else [],
            AlgorithmSpecification={
                "TrainingImage": block["trainingImage"],
                "TrainingInputMode": "File",
            },
            RoleArn=block["executionRoleArn"],
            OutputDataConfig={"S3OutputPath": block["output"], "KmsKeyId": block["kmsKeyId"]},
            ResourceConfig={
                "InstanceType": block["instanceType"],
                "InstanceCount": 1,
                "VolumeSizeInGB": 30,
            },
            StoppingCondition={"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400},
            EnableManagedSpotTraining=True,
            CheckpointConfig={"S3Uri": block["checkpoints"]},
            HyperParameters={"epochs": "3", "seed": "42", **spec["hyperparameters"]},
            Environment=block["environment"],
            VpcConfig={
                "Subnets": block["vpc"]["subnets"],
                "SecurityGroupIds": block["vpc"]["securityGroups"],
            },
            InputDataConfig=[
                _channel("train", spec["trainingData"], ContentType="text/csv"),
                _channel("validation", spec["validationData"], ContentType="text/csv"),
                _channel("model", spec["baseModel"]),
                *(_channel(one["name"], one["address"]) for one in block["channels"]),
            ],
        )
        await self.settle()


def _channel(name: str, address: str, **more: str) -> JSON:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": address,
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **more}
