"""Azure OpenAI: https://learn.microsoft.com/azure/ai-foundry/openai/."""
