"""What a user holds: the learner, what it has adapted to a task, and the files both live in."""
