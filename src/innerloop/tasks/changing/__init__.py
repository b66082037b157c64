"""Tasks that change while they are used: a stream of examples in their order, whose law is another one from some step on."""
