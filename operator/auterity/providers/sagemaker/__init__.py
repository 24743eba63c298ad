"""Amazon SageMaker: https://docs.aws.amazon.com/sagemaker/latest/APIReference/."""
