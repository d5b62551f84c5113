"""The parts of RunPod on loopback: its REST API, the GraphQL that its SDK speaks, a registry."""
