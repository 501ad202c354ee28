"""What benchmarks and fuzzers share: shards of every format, a small client, the service in a process of its own."""
