"""Amazon Cognito: https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/."""
