"""A stream of engagements, from Kafka or lines of JSON, to `POST /v1/engagements`: each event once, and none lost."""
