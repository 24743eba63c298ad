"""Azure Machine Learning: https://learn.microsoft.com/rest/api/azureml/."""
