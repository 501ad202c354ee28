"""What an operator sees of the service: logs, metrics, traces; none of them holds data of a shard or a key."""
