"""Vector indexes at Milvus and Zilliz Cloud: https://milvus.io/docs."""
