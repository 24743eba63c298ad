"""Vector search indexes at MongoDB Atlas: https://www.mongodb.com/docs/atlas/api/."""
