"""One endpoint each: from a request to a call of a service, and back to an answer."""
